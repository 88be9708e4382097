//! Which requests are served and where: the rates, the routes, and the networks that a route is there for.

use std::net::IpAddr;

use pingora::http::RequestHeader;

use super::Proxy;
use super::answer::Answer;
use super::context::RequestContext;
use super::site::Site;
use super::target::Target;
use crate::config::Route;

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
        let Some((number, route)) = route(&ctx.site, request) else {
            return Some(Answer::NO_ROUTE);
        };
        (ctx.pool, ctx.retry, ctx.routed) = (route.pool, route.retry, true);
        if !permits(route, client) {
            return Some(Answer::FORBIDDEN);
        }
        beyond(number + 1, route.rate.as_ref()?)
    }
}

/// The route of a request, with its number from 0.
pub(super) fn route<'a>(site: &'a Site, request: &RequestHeader) -> Option<(usize, &'a Route)> {
    let target = Target::of(request);
    let number = site.router.find(target.authority, target.path())?;
    Some((number, &site.routes[number]))
}

/// Whether a route is there for a client; it is for one without an address.
pub(super) fn permits(route: &Route, client: Option<IpAddr>) -> bool {
    client.is_none_or(|client| route.access.permits(client))
}
