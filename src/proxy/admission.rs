//! Which requests are served and where: the rates, the routes, and the networks that a route is there for.

use std::net::IpAddr;

use http::Method;

use super::Proxy;
use super::answer::Answer;
use super::context::RequestContext;
use super::rate::Scope;
use super::site::Site;
use super::target::Target;
use crate::config::Route;
use crate::message::RequestView;
use crate::route::AmbiguousPath;

impl Proxy {
    /// Finds the route of a request. The answer if it is not to be served: beyond the rate that holds for all, with a path
    /// that hosts may read as one of another route, without a route, from a network that the route is not there for, or beyond the rate of the route.
    pub(crate) fn refuse(
        &self,
        request: RequestView<'_>,
        ctx: &mut RequestContext,
    ) -> Option<Answer> {
        let client = ctx.origin.map(|origin| origin.client);
        let beyond = |scope, rate: &_| {
            let counted = self.clients().count(scope, rate, client, request);
            counted.err().map(Answer::too_many)
        };
        let rate = ctx.site.limits.rate.as_ref();
        let refused = rate.and_then(|rate| beyond(Scope::All, rate));
        if refused.is_some() {
            return refused;
        }
        let route = match route(&ctx.site, request) {
            Ok(Some((_, route))) => route,
            Ok(None) => return Some(Answer::NO_ROUTE),
            Err(AmbiguousPath) => return Some(Answer::AMBIGUOUS_PATH),
        };
        (ctx.pool, ctx.retry, ctx.routed) = (route.pool.index, route.retry, true);
        if !permits(route, client) {
            return Some(Answer::FORBIDDEN);
        }
        let scope = Scope::Route {
            host: route.host.as_deref(),
            path: route.path.as_deref(),
        };
        beyond(scope, route.rate.as_ref()?)
    }
}

/// The route of a request, with its number from 0.
pub(crate) fn route<'a>(
    site: &'a Site,
    request: RequestView<'_>,
) -> Result<Option<(usize, &'a Route)>, AmbiguousPath> {
    let target = Target::of(request);
    let path = match target.uri {
        // What the host gets then: OPTIONS of the server as a whole.
        b"" if *request.method == Method::OPTIONS => b"*",
        _ => target.path(),
    };
    let number = site.router.find(target.authority, path)?;
    Ok(number.map(|number| (number, &site.routes[number])))
}

/// Whether a route is there for a client; it is for one without an address.
pub(crate) fn permits(route: &Route, client: Option<IpAddr>) -> bool {
    client.is_none_or(|client| route.access.permits(client))
}
