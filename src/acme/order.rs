//! One order: from the domain to the certificate.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeHandle, ChallengeType, Error, Identifier, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::challenge_files::{write_http, write_tls};
use super::order_error::{OrderError, describe};
use super::state_directory::{StateDirectory, blocking};
use crate::config::{Acme, AcmeChallenge};

/// How the authority is asked whether it has come to a decision. What it says in Retry-After comes first.
const POLLS: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(90));

/// Makes the answers to challenges known before the authority asks for them.
pub(super) trait AnswerPublisher {
    /// Returns once this instance and the others answer from the files.
    async fn publish(&mut self) -> Result<(), OrderError>;
}

/// Orders a certificate for `domain`. Returns the key and the chain as PEM.
///
/// # Errors
/// The authority refuses or cannot be reached, the domain could not be proven, or the answer could not be written.
pub(super) async fn order(
    domain: &str,
    acme: &Acme,
    account: &Account,
    state: &StateDirectory,
    publisher: &mut impl AnswerPublisher,
) -> Result<String, OrderError> {
    let identifiers = [Identifier::Dns(domain.to_owned())];
    let new = NewOrder::new(&identifiers);
    let new = match &acme.profile {
        Some(profile) => new.profile(profile),
        None => new,
    };
    let mut order = account.new_order(&new).await?;
    prove(domain, acme, &mut order, state, publisher).await?;
    match order.poll_ready(&POLLS).await {
        Ok(OrderStatus::Ready) => {}
        Ok(_) => return Err(refusal(&mut order).await),
        Err(Error::Api(problem)) => return Err(problem.into()),
        Err(error) => return Err(error.into()),
    }
    let key = KeyPair::generate().map_err(OrderError::of_order)?;
    let request = certificate_request(domain, &key).map_err(OrderError::of_order)?;
    order.finalize_csr(&request).await?;
    let chain = order.poll_certificate(&POLLS).await?;
    Ok(key.serialize_pem() + &chain)
}

/// Answers the challenge of each authorization that is not there yet.
async fn prove(
    domain: &str,
    acme: &Acme,
    order: &mut Order,
    state: &StateDirectory,
    publisher: &mut impl AnswerPublisher,
) -> Result<(), OrderError> {
    let (kind, name) = match acme.challenge {
        AcmeChallenge::Http01 => (ChallengeType::Http01, "http-01"),
        AcmeChallenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            // The domain was proven for an earlier order.
            AuthorizationStatus::Valid => continue,
            _ => return Err(OrderError::of_order("the authority has refused the domain")),
        }
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            return Err(OrderError::of_order(format!(
                "the authority does not offer {name}"
            )));
        };
        write_answer(domain, acme.challenge, &challenge, state).await?;
        publisher.publish().await?;
        challenge.set_ready().await?;
    }
    Ok(())
}

async fn write_answer(
    domain: &str,
    kind: AcmeChallenge,
    challenge: &ChallengeHandle<'_>,
    state: &StateDirectory,
) -> Result<(), OrderError> {
    let (directory, domain) = (state.challenges(), domain.to_owned());
    let (token, answer) = (challenge.token.clone(), challenge.key_authorization());
    let written = blocking(move || match kind {
        AcmeChallenge::Http01 => write_http(&directory, &token, answer.as_str()),
        AcmeChallenge::TlsAlpn01 => write_tls(&directory, &domain, answer.digest().as_ref()),
    });
    written.await.map_err(OrderError::of_order)
}

/// Why an order is invalid: what the authority says about its challenges.
async fn refusal(order: &mut Order) -> OrderError {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Ok(state) = authorization.refresh().await {
            let errors = state
                .challenges
                .iter()
                .filter_map(|challenge| challenge.error.as_ref());
            reasons.extend(errors.map(describe));
        }
    }
    match reasons.is_empty() {
        true => OrderError::of_order("the authority has refused the order without a reason"),
        false => OrderError::of_order(reasons.join("; ")),
    }
}

/// A request for a certificate with nothing but the name: everything else is the authority's.
fn certificate_request(domain: &str, key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::new([domain.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}
