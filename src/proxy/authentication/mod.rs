//! Authentication: which clients a route lets in, after its access rules and rates and before anything it does.

mod basic;
mod copied_fields;
mod forward;
mod password_check;
mod verified_cache;

use std::sync::Arc;
use std::time::Instant;

use pingora::Error;

use super::Proxy;
use super::context::RequestContext;
use super::forwarding::request_id::RequestId;
use super::forwarding::x_forwarded::ConnectionInfo;
use super::local_message::LocalMessage;
use crate::client_certificate::ClientVerification;
use crate::config::Authentication;
use crate::message::RequestView;

use copied_fields::CopiedFields;

pub(crate) use password_check::PasswordChecker;

/// What is known of a client.
#[derive(Debug, Default)]
pub(crate) struct AuthenticatedClient {
    /// The name of the user, if a password was asked for.
    pub(crate) user: Vec<u8>,
    /// What the service that was asked tells the host.
    pub(crate) copied_fields: CopiedFields,
    /// The outcome of its listener's request for a certificate. `None`: there was none.
    pub(crate) verification: Option<Arc<ClientVerification>>,
}

impl RequestContext {
    /// Whether the client has to tell who it is.
    pub(crate) fn needs_authentication(&self) -> bool {
        self.route()
            .is_some_and(|route| route.authentication.is_required())
    }
}

impl Proxy {
    /// Checks who the client is, as the request's route asks for. Returns the response if the request is refused.
    /// `disconnect` resolves if the client disconnects meanwhile.
    ///
    /// # Errors
    /// That of `disconnect`.
    pub(crate) async fn authenticate(
        &self,
        request: RequestView<'_>,
        connection: ConnectionInfo<'_>,
        ctx: &mut RequestContext,
        disconnect: impl Future<Output = Box<Error>>,
    ) -> Result<Option<Box<LocalMessage>>, Box<Error>> {
        let began = Instant::now();
        // The service and the host get the same id.
        ctx.id.get_or_insert_with(RequestId::generate);
        let decision = tokio::select! {
            biased;
            decision = self.decide(request, connection, ctx) => decision,
            error = disconnect => return Err(error),
        };
        ctx.discount_client_wait(began.elapsed());
        Ok(match decision {
            Ok((user, copied_fields)) => {
                let client = ctx.authenticated.get_or_insert_default();
                (client.user, client.copied_fields) = (user, copied_fields);
                None
            }
            Err(response) => Some(response),
        })
    }

    async fn decide(
        &self,
        request: RequestView<'_>,
        connection: ConnectionInfo<'_>,
        ctx: &RequestContext,
    ) -> Result<(Vec<u8>, CopiedFields), Box<LocalMessage>> {
        let (mut user, mut copied_fields) = (Vec::new(), CopiedFields::default());
        if let Some(route) = ctx.route() {
            let Authentication { basic_auth, auth } = &route.authentication;
            if let Some(basic) = basic_auth {
                user = basic::authenticate(self.password_checker(), basic, request).await?;
            }
            if let Some(auth) = auth {
                copied_fields = forward::ask(self, auth, request, connection, ctx).await?;
            }
        }
        Ok((user, copied_fields))
    }
}
