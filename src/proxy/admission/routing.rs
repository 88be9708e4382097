//! Which requests are served and where: the rates, the routes, and the networks that a route is there for.

use std::net::IpAddr;

use http::Method;

use super::rate_limit::RateScope;
use crate::config::Route;
use crate::message::RequestView;
use crate::proxy::Proxy;
use crate::proxy::active_config::ActiveConfig;
use crate::proxy::context::RequestContext;
use crate::proxy::local_response::LocalResponse;
use crate::proxy::request_target::RequestTarget;
use crate::route::AmbiguousPath;

impl Proxy {
    /// Finds the route of a request. The answer if it is not to be served: beyond the rate that holds for all, with a path
    /// that hosts may read as one of another route, without a route, from a network that the route is not there for, or beyond the rate of the route.
    pub(crate) fn refuse(
        &self,
        request: RequestView<'_>,
        ctx: &mut RequestContext,
    ) -> Option<LocalResponse> {
        let client = ctx.origin.map(|origin| origin.client);
        let beyond = |scope, rate: &_| {
            let counted = self.rate_limiter().check(scope, rate, client, request);
            counted.err().map(LocalResponse::too_many_requests)
        };
        let rate = ctx.active.limits.rate.as_ref();
        let refused = rate.and_then(|rate| beyond(RateScope::All, rate));
        if refused.is_some() {
            return refused;
        }
        let route = match route(&ctx.active, request) {
            Ok(Some((_, route))) => route,
            Ok(None) => return Some(LocalResponse::NO_ROUTE),
            Err(AmbiguousPath) => return Some(LocalResponse::AMBIGUOUS_PATH),
        };
        (ctx.pool, ctx.retry, ctx.has_route) = (route.pool.index, route.retry, true);
        if !permits(route, client) {
            return Some(LocalResponse::FORBIDDEN);
        }
        let scope = RateScope::Route {
            host: route.host.as_deref(),
            path: route.path.as_deref(),
        };
        beyond(scope, route.rate.as_ref()?)
    }
}

/// The route of a request, with its number from 0.
pub(crate) fn route<'a>(
    active: &'a ActiveConfig,
    request: RequestView<'_>,
) -> Result<Option<(usize, &'a Route)>, AmbiguousPath> {
    let target = RequestTarget::of(request);
    let path = match target.uri {
        // What the host gets then: OPTIONS of the server as a whole.
        b"" if *request.method == Method::OPTIONS => b"*",
        _ => target.path(),
    };
    let number = active.router.find(target.authority, path)?;
    Ok(number.map(|number| (number, &active.routes[number])))
}

/// Whether a route is there for a client; it is for one without an address.
pub(crate) fn permits(route: &Route, client: Option<IpAddr>) -> bool {
    client.is_none_or(|client| route.access.permits(client))
}
