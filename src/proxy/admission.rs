//! Which requests are served and where: the rates, the routes, and the networks that a route is there for.

use pingora::http::RequestHeader;

use super::Proxy;
use super::answer::Answer;
use super::context::RequestContext;
use super::target::Target;

impl Proxy {
    /// Finds the route of a request. The answer if it is not to be served: beyond the rate that holds for all, without a
    /// route, from a network that the route is not there for, or beyond the rate of the route.
    pub(super) fn refuse(
        &self,
        request: &RequestHeader,
        ctx: &mut RequestContext,
    ) -> Option<Answer> {
        let client = ctx.origin.map(|origin| origin.client);
        let beyond = |number, rate: &_| {
            let counted = self.clients().count(number, rate, client, request);
            counted.err().map(Answer::too_many)
        };
        // 0 is the rate for all.
        let refused = ctx.site.limits.rate.as_ref().and_then(|r| beyond(0, r));
        if refused.is_some() {
            return refused;
        }
        let target = Target::of(request);
        let Some(number) = ctx.site.router.find(target.authority, target.path()) else {
            return Some(Answer::NO_ROUTE);
        };
        let route = &ctx.site.routes[number];
        (ctx.pool, ctx.retry, ctx.routed) = (route.pool, route.retry, true);
        if client.is_some_and(|client| !route.access.permits(client)) {
            return Some(Answer::FORBIDDEN);
        }
        beyond(number + 1, route.rate.as_ref()?)
    }
}
