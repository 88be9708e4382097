//! The account at the authority.

use instant_acme::{Account, AccountCredentials, NewAccount};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::directory_client::DirectoryClient;
use super::order_error::OrderError;
use super::state_directory::{StateDirectory, blocking};
use crate::config::Acme;

/// What is kept of an account.
#[derive(Serialize, Deserialize)]
struct KeptAccount {
    /// The address that the authority knows.
    email: Option<String>,
    /// Its URL and its key, in the form of instant-acme's [`AccountCredentials`].
    credentials: Value,
}

/// The account that is kept in `state`, or else a new one. A request for the authority's directory comes first.
///
/// # Errors
/// The authority cannot be reached or refuses the account, or `state` cannot be read or written.
pub(super) async fn open(
    state: &StateDirectory,
    acme: &Acme,
    client: &DirectoryClient,
) -> Result<Account, OrderError> {
    let kept = {
        let state = state.clone();
        blocking(move || state.account::<KeptAccount>()).await
    };
    let contact = acme.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact = Vec::from_iter(contact.as_deref());
    let builder = Account::builder_with_http(Box::new(client.clone()));
    let (account, credentials) = match kept.map_err(OrderError::of_authority)? {
        Some(kept) => {
            let credentials: AccountCredentials =
                serde_json::from_value(kept.credentials.clone()).map_err(unusable)?;
            let account = builder.from_credentials(credentials).await?;
            if kept.email == acme.email {
                return Ok(account);
            }
            account.update_contacts(&contact).await?;
            (account, kept.credentials)
        }
        None => {
            let new = NewAccount {
                contact: &contact,
                terms_of_service_agreed: true,
                only_return_existing: false,
            };
            let created = builder
                .create(&new, acme.directory.to_string(), None)
                .await?;
            let credentials = serde_json::to_value(&created.1).map_err(unusable)?;
            (created.0, credentials)
        }
    };
    let kept = KeptAccount {
        email: acme.email.clone(),
        credentials,
    };
    let state = state.clone();
    let written = blocking(move || state.write_account(&kept)).await;
    written.map_err(OrderError::of_authority)?;
    Ok(account)
}

fn unusable(error: serde_json::Error) -> OrderError {
    OrderError::of_authority(format!("the account that is kept cannot be used: {error}"))
}
