//! Whether a request is served: the decisions of [`Proxy`](crate::proxy::Proxy), while the client's connection is watched.

use std::future::poll_fn;

use super::exchange::Exchange;
use crate::message::RequestView;
use crate::proxy::context::RequestContext;
use crate::proxy::local_message::LocalMessage;

impl Exchange<'_> {
    /// Returns the response to a request that is not admitted.
    pub(super) fn admit(
        &self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
    ) -> Option<Box<LocalMessage>> {
        self.engine
            .proxy
            .admit(request, self.peer.connection(), ctx)
    }

    /// Returns the response of an admitted request's route, if it responds itself.
    pub(super) fn respond(
        &self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
    ) -> Option<Box<LocalMessage>> {
        self.engine
            .proxy
            .respond(request, self.peer.connection(), ctx)
    }

    /// Checks who the client is. Returns the response if the request is refused.
    pub(super) async fn authenticate(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
    ) -> pingora::Result<Option<Box<LocalMessage>>> {
        let (proxy, half_close) = (&self.engine.proxy, ctx.active.half_close);
        let connection = self.peer.connection();
        let client = &mut *self.client;
        let disconnected = poll_fn(|context| client.poll_disconnect(context, half_close));
        let authenticated = proxy.authenticate(request, connection, ctx, disconnected);
        authenticated.await
    }
}
