//! Authentication: which clients a route lets in, after its access rules and rates and before anything it does.

mod basic;
mod password_check;
mod verified_cache;

use std::time::Instant;

use pingora::Error;

use super::Proxy;
use super::context::RequestContext;
use super::local_message::LocalMessage;
use crate::message::RequestView;

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
        ctx: &mut RequestContext,
        disconnect: impl Future<Output = Box<Error>>,
    ) -> Result<Option<Box<LocalMessage>>, Box<Error>> {
        let began = Instant::now();
        let refused = tokio::select! {
            biased;
            refused = self.refuse_unknown(request, ctx) => refused,
            error = disconnect => return Err(error),
        };
        ctx.discount_client_wait(began.elapsed());
        Ok(refused)
    }

    async fn refuse_unknown(
        &self,
        request: RequestView<'_>,
        ctx: &RequestContext,
    ) -> Option<Box<LocalMessage>> {
        let authentication = &ctx.route()?.authentication;
        match &authentication.basic_auth {
            Some(basic) => basic::refuse(self.password_checker(), basic, request).await,
            None => None,
        }
    }
}
