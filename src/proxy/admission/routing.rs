//! Which requests are served and by which route: global rate, route, access, rate and limits of the route; and to which
//! pool they go.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Method, Version};

use super::rate_limit::RateScope;
use crate::client_certificate::ClientVerification;
use crate::config::{Action, CertificateMode, Maintenance, Route};
use crate::message::RequestView;
use crate::normalize;
use crate::pool::Pool;
use crate::proxy::Proxy;
use crate::proxy::active_config::ActiveConfig;
use crate::proxy::context::RequestContext;
use crate::proxy::forwarding::request_id::RequestId;
use crate::proxy::forwarding::x_forwarded::ConnectionInfo;
use crate::proxy::http_rules;
use crate::proxy::local_message::LocalMessage;
use crate::proxy::local_response::LocalResponse;
use crate::proxy::mirror::RequestCopy;
use crate::proxy::request_target::RequestTarget;
use crate::proxy::selection::split;
use crate::proxy::template_values::TemplateValues;
use crate::route::{AmbiguousPath, RoutingInput};

impl Proxy {
    /// Finds the route of a request and records it in `ctx`. Returns the response if an authority asks for the answer to an
    /// ACME challenge, if the listener redirects to https, or if the request is refused: it exceeds the global rate, its
    /// path is ambiguous, no route matches, the route does not permit the client's network or needs a certificate, or the
    /// request exceeds the rate of the route or one of its limits.
    pub(crate) fn admit(
        &self,
        request: RequestView<'_>,
        connection: ConnectionInfo<'_>,
        ctx: &mut RequestContext,
    ) -> Option<Box<LocalMessage>> {
        if let Some(verification) = connection.verification {
            let client = ctx.authenticated.get_or_insert_default();
            client.verification = Some(Arc::clone(verification));
        }
        if self.challenges.are_pending()
            && let Some(answer) = self.challenge_answer(request)
        {
            return Some(answer);
        }
        if ctx.active.redirects_to_https(connection.local) && !is_acme_challenge(request) {
            let values = TemplateValues::new(ctx, request, connection.tls);
            if RequestTarget::of(request).authority.is_empty() {
                return Some(LocalResponse::BAD_HOST.into());
            }
            if !values.is_https() {
                return Some(Box::new(values.https_redirect()));
            }
        }
        self.refuse(request, ctx).map(Into::into)
    }

    /// Does what the route does with an admitted request. Returns the response if the route responds itself, or if its
    /// pool is in maintenance; the pool is recorded in `ctx`.
    pub(crate) fn respond(
        &self,
        request: RequestView<'_>,
        connection: ConnectionInfo<'_>,
        ctx: &mut RequestContext,
    ) -> Option<Box<LocalMessage>> {
        let route = &ctx.active.routes[ctx.route?];
        let client = ctx.origin.and_then(|origin| origin.client);
        let pool = match route.action.get() {
            Action::Pool(pool) => Some(pool.index),
            Action::Split(shares, key) => {
                let chosen = split::choose(shares, key, request, client);
                let pool = shares[chosen].pool.index;
                ctx.limits += chosen;
                Some(pool)
            }
            Action::Redirect(_) | Action::Respond(_) => None,
        };
        if let Some(pool) = pool {
            (ctx.pool, ctx.has_pool) = (pool, true);
            if !ctx.pool().protocol().may_be_http1() {
                let upgrade = ctx.upgrade.take();
                match request.version {
                    // Their responses have no length, and Pingora would send chunks.
                    Version::HTTP_10 => return Some(LocalResponse::NEEDS_HTTP_11.into()),
                    // A tunnel is no ordinary request that may go without its upgrade.
                    Version::HTTP_2 if upgrade.is_some() => {
                        return Some(LocalResponse::NO_TUNNEL.into());
                    }
                    _ => {}
                }
            }
            if let Some(maintenance) = maintenance(ctx.pool(), client) {
                return Some(Box::new(LocalMessage::maintenance(&maintenance)));
            }
            let upgrade = ctx.upgrade.as_deref();
            ctx.copy = RequestCopy::draw(
                route.mirror.as_ref(),
                request,
                upgrade,
                connection,
                &self.subrequests,
            );
            return None;
        }
        ctx.id.get_or_insert_with(RequestId::generate);
        let values = TemplateValues::new(ctx, request, connection.tls);
        match ctx.route()?.action.get() {
            Action::Pool(_) | Action::Split(..) => None,
            Action::Redirect(redirect) => Some(Box::new(values.redirect(redirect))),
            Action::Respond(respond) => Some(Box::new(values.respond(respond))),
        }
    }

    /// The answer to a pending ACME challenge of this process or of one with the same state.
    fn challenge_answer(&self, request: RequestView<'_>) -> Option<Box<LocalMessage>> {
        let path = normalize::path(RequestTarget::of(request).path()).path;
        let token = std::str::from_utf8(path.strip_prefix(CHALLENGES)?).ok()?;
        let answer = self.challenges.key_authorization(token)?;
        matches!(*request.method, Method::GET | Method::HEAD)
            .then(|| Box::new(LocalMessage::challenge_answer(answer)))
    }

    fn refuse(&self, request: RequestView<'_>, ctx: &mut RequestContext) -> Option<LocalResponse> {
        let client = ctx.origin.and_then(|origin| origin.client);
        let rate_exceeded = |scope, rate: &_| {
            let counted = self.rate_limiter().check(scope, rate, client, request);
            counted.err().map(LocalResponse::too_many_requests)
        };
        let rate = ctx.active.limits.rate.as_ref();
        let refused = rate.and_then(|rate| rate_exceeded(RateScope::All, rate));
        if refused.is_some() {
            return refused;
        }
        let (number, route) = match route(&ctx.active, request, client) {
            Ok(Some(found)) => found,
            Ok(None) => return Some(LocalResponse::NO_ROUTE),
            Err(AmbiguousPath) => return Some(LocalResponse::AMBIGUOUS_PATH),
        };
        let state = &ctx.active.route_states[number];
        (ctx.route, ctx.retry, ctx.limits) = (Some(number), route.retry, state.limits);
        if !route.access.permits(client) {
            return Some(LocalResponse::FORBIDDEN);
        }
        let subject = ctx.verification().and_then(ClientVerification::subject);
        if lacks_certificate(route, subject) {
            return Some(LocalResponse::NO_CLIENT_CERTIFICATE);
        }
        let scope = RateScope::Route(&route.matches);
        let rate = route.rate.as_ref();
        let refused = rate.and_then(|rate| rate_exceeded(scope, rate));
        if refused.is_some() {
            return refused;
        }
        // Before the route was known, the body was only compared with the longest one that any route permits.
        let body = ctx.active.request_limits[state.limits].body;
        if body != ctx.active.limits.body && http_rules::exceeds(request, body) {
            return Some(LocalResponse::BODY_TOO_LARGE);
        }
        let slots = state.slots.as_ref()?;
        (!ctx.in_flight.admit_to_route(slots)).then_some(LocalResponse::OVERLOADED)
    }
}

/// What the paths begin with at which authorities ask for the answers to ACME challenges.
const CHALLENGES: &[u8] = b"/.well-known/acme-challenge/";

/// Whether a request may go to a host of HTTP/2, which the engine does not speak.
pub(crate) fn may_need_http2(request: RequestView<'_>, ctx: &RequestContext) -> bool {
    let client = ctx.origin.and_then(|origin| origin.client);
    match route(&ctx.active, request, client) {
        Ok(Some((number, _))) => ctx.active.route_states[number].may_be_http2,
        Ok(None) | Err(AmbiguousPath) => false,
    }
}

/// Whether the request is an authority's for the answer to an ACME challenge, which it asks for over plain HTTP (RFC
/// 8555 8.3).
fn is_acme_challenge(request: RequestView<'_>) -> bool {
    let path = normalize::path(RequestTarget::of(request).path()).path;
    path.starts_with(CHALLENGES)
}

/// The maintenance of a pool, unless it lets the client in. A client without an IP address never is.
pub(crate) fn maintenance(pool: &Pool, client: Option<IpAddr>) -> Option<Arc<Maintenance>> {
    let maintenance = pool.maintenance()?;
    let is_served = client.is_some_and(|client| maintenance.permits(client));
    (!is_served).then_some(maintenance)
}

/// The route of a request, and its index. `client`: the client's address, as trusted proxies tell it.
pub(crate) fn route<'a>(
    active: &'a ActiveConfig,
    request: RequestView<'_>,
    client: Option<IpAddr>,
) -> Result<Option<(usize, &'a Route)>, AmbiguousPath> {
    let number = active.router.find(routing_input(request, client))?;
    Ok(number.map(|number| (number, &active.routes[number])))
}

/// What routes look at.
pub(crate) fn routing_input(request: RequestView<'_>, client: Option<IpAddr>) -> RoutingInput<'_> {
    let target = RequestTarget::of(request);
    RoutingInput {
        method: request.method,
        authority: target.authority,
        path: match target.uri {
            // An absolute target without a path reaches the host as `OPTIONS *`.
            b"" if *request.method == Method::OPTIONS => b"*",
            _ => target.path(),
        },
        query: target.query(),
        fields: request.fields,
        client,
    }
}

/// Whether a route requires a client's certificate, and a client with this subject has none.
pub(crate) fn lacks_certificate(route: &Route, subject: Option<&str>) -> bool {
    route.client_certificate == CertificateMode::Required && subject.is_none()
}
