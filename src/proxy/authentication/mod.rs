//! Authentication: which clients a route lets in, after its access rules and rates and before anything it does.

mod basic;
mod copied_fields;
mod forward;
mod password_check;
mod verified_cache;

use std::time::Instant;

use pingora::Error;

use super::Proxy;
use super::context::RequestContext;
use super::forwarding::request_id::RequestId;
use super::forwarding::x_forwarded::ConnectionInfo;
use super::local_message::LocalMessage;
use crate::message::RequestView;

use forward::Decision;

pub(crate) use copied_fields::CopiedFields;
pub(crate) use password_check::PasswordChecker;

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
        connection: ConnectionInfo,
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
            Decision::Granted(copied) => {
                ctx.copied_fields = (!copied.is_empty()).then(|| Box::new(copied));
                None
            }
            Decision::Refused(response) => Some(response),
        })
    }

    async fn decide(
        &self,
        request: RequestView<'_>,
        connection: ConnectionInfo,
        ctx: &RequestContext,
    ) -> Decision {
        let authentication = ctx.route().map(|route| &route.authentication);
        if let Some(basic) = authentication.and_then(|it| it.basic_auth.as_ref())
            && let Some(response) = basic::refuse(self.password_checker(), basic, request).await
        {
            return Decision::Refused(response);
        }
        match authentication.and_then(|it| it.auth.as_ref()) {
            Some(auth) => forward::ask(self, auth, request, connection, ctx).await,
            None => Decision::Granted(CopiedFields::default()),
        }
    }
}
