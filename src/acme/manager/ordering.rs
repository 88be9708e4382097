//! Orders what is due, one after the other.

use std::time::Duration;

use log::debug;
use tokio::time::{sleep, timeout};

use super::{AcmeManager, now};
use crate::acme::account;
use crate::acme::directory_client::DirectoryClient;
use crate::acme::failure::Failure;
use crate::acme::order::{AnswerPublisher, order};
use crate::acme::order_error::{ErrorScope, OrderError};
use crate::acme::schedule::issuer;
use crate::acme::state_directory::{DomainState, StateDirectory, blocking, is_alone};
use crate::config::Acme;
use crate::event_log::EventKind;
use crate::metrics::OrderOutcome;
use crate::timestamp::Timestamp;

/// How long the others get to find an answer before the authority may ask for it: they look once a second.
const PUBLICATION: Duration = Duration::from_secs(2);

/// For one order. Each of its requests has a timeout of its own.
const ORDER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How often an order is made again because the authority refuses each nonce. It gets a few for each request.
const MAX_BAD_NONCES: u32 = 3;

impl AcmeManager {
    /// Orders a certificate for each of `due`. What fails is recorded, and tried again later.
    pub(super) async fn order_all(
        &mut self,
        state: &StateDirectory,
        acme: &Acme,
        due: Vec<DomainState>,
    ) -> Result<(), String> {
        let client = DirectoryClient::new(acme);
        let mut left = &*due;
        let (mut has_new_account, mut bad_nonces) = (false, 0);
        loop {
            let Err((position, error)) = self.order_some(state, acme, &client, left).await? else {
                return Ok(());
            };
            left = &left[position..];
            match error.scope {
                ErrorScope::Account if !has_new_account => {
                    debug!("the authority does not know the account: {}", error.message);
                    let state = state.clone();
                    blocking(move || state.remove_account()).await?;
                    has_new_account = true;
                }
                ErrorScope::Nonce if bad_nonces < MAX_BAD_NONCES => bad_nonces += 1,
                _ => {
                    let asked = client.take_retry_after();
                    return self.record_failure(state, acme, left, error, asked).await;
                }
            }
        }
    }

    /// Orders certificates until one fails for a reason that would hold for all others; returns its position and the error.
    async fn order_some(
        &mut self,
        state: &StateDirectory,
        acme: &Acme,
        client: &DirectoryClient,
        due: &[DomainState],
    ) -> Result<Result<(), (usize, OrderError)>, String> {
        let account = match account::open(state, acme, client).await {
            Ok(account) => account,
            Err(error) => return Ok(Err((0, error))),
        };
        for (position, found) in due.iter().enumerate() {
            let ordered = timeout(
                ORDER_TIMEOUT,
                order(&found.domain, acme, &account, state, self),
            );
            let ordered = ordered.await.unwrap_or_else(|_| {
                let limit = ORDER_TIMEOUT.as_secs();
                Err(OrderError::of_order(format!("not done within {limit} s")))
            });
            let kept = match ordered {
                Ok(text) => self.keep(state, acme, &found.domain, text).await,
                Err(error) => Err(error),
            };
            match kept {
                Ok(()) => {}
                Err(error) if error.scope != ErrorScope::Order => {
                    return Ok(Err((position, error)));
                }
                Err(error) => {
                    let asked = client.take_retry_after();
                    let failed = std::slice::from_ref(found);
                    self.record_failure(state, acme, failed, error, asked)
                        .await?;
                }
            }
        }
        Ok(Ok(()))
    }

    /// Writes an ordered certificate.
    async fn keep(
        &mut self,
        state: &StateDirectory,
        acme: &Acme,
        domain: &str,
        text: String,
    ) -> Result<(), OrderError> {
        let (writer, name) = (state.clone(), domain.to_owned());
        let written = blocking(move || writer.write_certificate(&name, &text, now())).await;
        let certificate = written.map_err(OrderError::of_order)?;
        self.parts.renewed.notify_one();
        // Others may take long, and who reads the line below looks at the status.
        let shown = self.review(state, acme).await;
        shown.map_err(OrderError::of_order)?;
        self.parts.counts.count_order(OrderOutcome::Issued);
        let signed =
            issuer(&certificate).map_or(String::new(), |issuer| format!(", signed by {issuer}"));
        let text = format!(
            "certificate for {domain} ordered from {}{signed}, expires at {}",
            acme.directory.host,
            Timestamp::from_unix_seconds(certificate.validity.until)
        );
        let kind = EventKind::CertificateOrdered;
        self.parts.event_log.log_event(kind, None, None, text);
        Ok(())
    }

    /// Records that the certificates of `failed` were not ordered, shows it, and says so in one line.
    async fn record_failure(
        &mut self,
        state: &StateDirectory,
        acme: &Acme,
        failed: &[DomainState],
        error: OrderError,
        asked: Option<Duration>,
    ) -> Result<(), String> {
        self.parts.counts.count_order(OrderOutcome::Failed);
        let failures = Vec::from_iter(failed.iter().map(|found| {
            let before = found.failure.as_ref();
            let message = error.message.clone();
            let failure = Failure::after(before, message, asked, now(), rand::random());
            (found.domain.clone(), failure)
        }));
        let (writer, records) = (state.clone(), failures.clone());
        let written = blocking(move || {
            let mut records = records.iter();
            records.try_for_each(|(domain, failure)| writer.write_failure(domain, failure))
        });
        let written = written.await;
        let shown = self.review(state, acme).await;
        if let Some((domain, failure)) = failures.first() {
            let more = match failures.len() - 1 {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let text = format!(
                "certificate for {domain}{more} not ordered, attempt {}: {}; the next one is at {}",
                failure.count,
                error.message,
                Timestamp::from_unix_seconds(failure.retry_at)
            );
            let kind = EventKind::CertificateOrderFailed;
            self.parts.event_log.log_event(kind, None, None, text);
        }
        written.and(shown.map(drop))
    }
}

impl AnswerPublisher for AcmeManager {
    async fn publish(&mut self) -> Result<(), OrderError> {
        self.read_challenges().await.map_err(OrderError::of_order)?;
        let Some((state, joined)) = self.opened.take() else {
            return Ok(());
        };
        let checked = blocking(move || {
            let alone = is_alone(&joined);
            Ok((alone, joined))
        });
        let (alone, joined) = checked.await.map_err(OrderError::of_order)?;
        self.opened = Some((state, joined));
        if !alone.map_err(OrderError::of_order)? {
            sleep(PUBLICATION).await;
        }
        Ok(())
    }
}
