//! Which requests are served and by which route: global rate, route, access, rate of the route.

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;

use super::rate_limit::RateScope;
use crate::config::{Action, Maintenance, Route};
use crate::message::RequestView;
use crate::pool::Pool;
use crate::proxy::Proxy;
use crate::proxy::active_config::ActiveConfig;
use crate::proxy::context::RequestContext;
use crate::proxy::forwarding::request_id::RequestId;
use crate::proxy::local_message::LocalMessage;
use crate::proxy::local_response::LocalResponse;
use crate::proxy::request_target::RequestTarget;
use crate::proxy::template_values::TemplateValues;
use crate::route::AmbiguousPath;

impl Proxy {
    /// Finds the route of a request and records it in `ctx`. Returns the response if the request is refused (it exceeds
    /// the global rate, its path is ambiguous, no route matches, the route does not permit the client's network, the
    /// request exceeds the rate of the route, or its pool is in maintenance), or if the route responds itself. `tls`:
    /// whether the client's connection is encrypted.
    pub(crate) fn respond(
        &self,
        request: RequestView<'_>,
        tls: bool,
        ctx: &mut RequestContext,
    ) -> Option<Box<LocalMessage>> {
        let refused = self.refuse(request, ctx);
        if refused.is_some() {
            return refused.map(Into::into);
        }
        let route = &ctx.active.routes[ctx.route?];
        if let Action::Pool(pool) = route.action.get() {
            (ctx.pool, ctx.has_pool) = (pool.index, true);
            let client = ctx.origin.map(|origin| origin.client);
            let maintenance = maintenance(ctx.pool(), client)?;
            return Some(Box::new(LocalMessage::maintenance(&maintenance)));
        }
        ctx.id.get_or_insert_with(RequestId::generate);
        let values = TemplateValues::new(ctx, request, tls);
        match ctx.route()?.action.get() {
            Action::Pool(_) => None,
            Action::Redirect(redirect) => Some(Box::new(values.redirect(redirect))),
            Action::Respond(respond) => Some(Box::new(values.respond(respond))),
        }
    }

    fn refuse(&self, request: RequestView<'_>, ctx: &mut RequestContext) -> Option<LocalResponse> {
        let client = ctx.origin.map(|origin| origin.client);
        let rate_exceeded = |scope, rate: &_| {
            let counted = self.rate_limiter().check(scope, rate, client, request);
            counted.err().map(LocalResponse::too_many_requests)
        };
        let rate = ctx.active.limits.rate.as_ref();
        let refused = rate.and_then(|rate| rate_exceeded(RateScope::All, rate));
        if refused.is_some() {
            return refused;
        }
        let (number, route) = match route(&ctx.active, request) {
            Ok(Some(found)) => found,
            Ok(None) => return Some(LocalResponse::NO_ROUTE),
            Err(AmbiguousPath) => return Some(LocalResponse::AMBIGUOUS_PATH),
        };
        (ctx.route, ctx.retry) = (Some(number), route.retry);
        if !permits(route, client) {
            return Some(LocalResponse::FORBIDDEN);
        }
        let scope = RateScope::Route(&route.matches);
        rate_exceeded(scope, route.rate.as_ref()?)
    }
}

/// The maintenance of a pool, unless it lets the client in. A client without an IP address never is.
pub(crate) fn maintenance(pool: &Pool, client: Option<IpAddr>) -> Option<Arc<Maintenance>> {
    let maintenance = pool.maintenance()?;
    let is_served = client.is_some_and(|client| maintenance.permits(client));
    (!is_served).then_some(maintenance)
}

/// The route of a request, and its index.
pub(crate) fn route<'a>(
    active: &'a ActiveConfig,
    request: RequestView<'_>,
) -> Result<Option<(usize, &'a Route)>, AmbiguousPath> {
    let target = RequestTarget::of(request);
    let path = match target.uri {
        // An absolute target without a path reaches the host as `OPTIONS *`.
        b"" if *request.method == Method::OPTIONS => b"*",
        _ => target.path(),
    };
    let number = active.router.find(target.authority, path)?;
    Ok(number.map(|number| (number, &active.routes[number])))
}

/// Whether a route permits a client. A client without an IP address is always permitted.
pub(crate) fn permits(route: &Route, client: Option<IpAddr>) -> bool {
    client.is_none_or(|client| route.access.permits(client))
}
