//! Forward authentication: a service decides about each request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, COOKIE, DATE, EXPECT, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, TRANSFER_ENCODING,
};
use http::{HeaderName, Method};
use log::warn;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};

use super::copied_fields::CopiedFields;
use crate::config::{ForwardAuth, HostHeader};
use crate::message::RequestView;
use crate::pool::{Pool, PoolLease};
use crate::proxy::Proxy;
use crate::proxy::admission;
use crate::proxy::context::RequestContext;
use crate::proxy::forwarding::request_id::{REQUEST_ID, RequestId};
use crate::proxy::forwarding::x_forwarded::ConnectionInfo;
use crate::proxy::http_rules::{self, RequestFieldFilter, ResponseFieldFilter};
use crate::proxy::local_message::LocalMessage;
use crate::proxy::local_response::LocalResponse;
use crate::proxy::request_target::RequestTarget;
use crate::proxy::subrequest::{
    BodyLimit, SubResponse, Subrequest, SubrequestLimits, SubrequestTarget, lease_for_subrequest,
};
use crate::proxy_protocol::ProxiedConnection;
use crate::record::TerminationReason;

/// The longest body of a response that goes to the client.
const MAX_BODY: usize = 64 << 10;

/// Fields that belong to the body of the client's request, or to the response that the host will send for it.
const NOT_FOR_SERVICE: [HeaderName; 10] = [
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    EXPECT,
    HOST,
    RANGE,
    IF_RANGE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
];

/// Asks the service about a request. Returns what it tells the host, or the response to a refused request. Without a valid
/// response of the service the request is refused.
pub(super) async fn ask(
    proxy: &Proxy,
    auth: &ForwardAuth,
    request: RequestView<'_>,
    connection: ConnectionInfo<'_>,
    ctx: &RequestContext,
) -> Result<CopiedFields, Box<LocalMessage>> {
    let filter = RequestFieldFilter::new(request)?;
    match send(proxy, auth, (request, &filter), connection, ctx).await {
        Ok(response) => decision(auth, response),
        Err(error) => {
            warn!("no answer of an authentication service: {error}");
            Err(LocalResponse::AUTH_FAILED.into())
        }
    }
}

async fn send(
    proxy: &Proxy,
    auth: &ForwardAuth,
    (request, filter): (RequestView<'_>, &RequestFieldFilter<'_>),
    connection: ConnectionInfo<'_>,
    ctx: &RequestContext,
) -> pingora::Result<SubResponse> {
    let question = |path: &str, host: &[u8]| {
        let mut head = RequestHeader::build(Method::GET, path.as_bytes(), None)?;
        head.insert_header(HOST, host)?;
        set_fields(&mut head, (request, filter), connection, ctx)?;
        Subrequest::new(head, Bytes::new())
    };
    let limits = SubrequestLimits {
        total: auth.timeout,
        body: BodyLimit::Keep(MAX_BODY),
        head: &ctx.active.limits,
    };
    match (&auth.url, &auth.pool) {
        (Some(url), _) => {
            let question = question(&url.path, url.authority().as_bytes())?;
            let target = SubrequestTarget::Url(url);
            proxy.subrequests.send(target, &question, limits).await
        }
        (None, Some(pool)) => {
            let pool = &ctx.active.pools[pool.index];
            let asked_for = RequestTarget::of(request).authority;
            let question = |lease: &PoolLease| {
                let path = auth.path.as_deref().unwrap_or("/");
                match pool.host_header() {
                    HostHeader::Preserve if !asked_for.is_empty() => question(path, asked_for),
                    _ => question(path, lease.member().host_header().as_bytes()),
                }
            };
            let client = ctx.origin.and_then(|origin| origin.client);
            let target = (pool, connection.proxied.map(|proxied| &**proxied));
            ask_pool(proxy, target, (request, client), question, limits).await
        }
        (None, None) => Err(no_host("no pool")),
    }
}

/// Asks a host of the pool, and further ones as far as the pool's `retries` permit and time is left.
async fn ask_pool(
    proxy: &Proxy,
    (pool, proxied): (&Arc<Pool>, Option<&ProxiedConnection>),
    (request, client): (RequestView<'_>, Option<IpAddr>),
    question: impl Fn(&PoolLease) -> pingora::Result<Subrequest>,
    limits: SubrequestLimits<'_>,
) -> pingora::Result<SubResponse> {
    if admission::maintenance(pool, client).is_some() {
        return Err(no_host("the pool is in maintenance"));
    }
    let began = Instant::now();
    let mut retries = pool
        .budget()
        .map(|budget| (budget.policy(), budget.begin_request()));
    let mut tried = Vec::new();
    let mut failed = None;
    loop {
        let lease = match lease_for_subrequest(pool, request, client, &tried) {
            Ok(lease) => lease,
            Err(error) => return Err(failed.unwrap_or_else(|| no_host(&error.to_string()))),
        };
        let host = lease.member().host().id().clone();
        if let Some(error) = failed.take_if(|_| tried.contains(&host)) {
            return Err(error);
        }
        let question = question(&lease)?;
        let limits = SubrequestLimits {
            total: limits.total.saturating_sub(began.elapsed()),
            ..limits
        };
        let target = SubrequestTarget::Host(lease, proxied);
        let error = match proxy.subrequests.send(target, &question, limits).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        tried.push(host);
        let may_retry = retries.as_mut().is_some_and(|(policy, handle)| {
            let deadline = policy.deadline.min(limits.total);
            tried.len() <= policy.attempts && began.elapsed() < deadline && handle.retry()
        });
        if !may_retry {
            return Err(error);
        }
        failed = Some(error);
    }
}

fn no_host(reason: &str) -> Box<Error> {
    Error::explain(ErrorType::HTTPStatus(503), reason.to_owned())
}

/// Sets the client's fields, and those that say what it asks for.
fn set_fields(
    head: &mut RequestHeader,
    (request, filter): (RequestView<'_>, &RequestFieldFilter<'_>),
    connection: ConnectionInfo<'_>,
    ctx: &RequestContext,
) -> pingora::Result<()> {
    let is = |name: &[u8], known: &HeaderName| name.eq_ignore_ascii_case(known.as_str().as_bytes());
    let mut cookies: Vec<&[u8]> = Vec::new();
    for (name, value) in request.fields.iter() {
        if is(name, &COOKIE) {
            cookies.push(value);
        } else if filter.passes(name) && !NOT_FOR_SERVICE.iter().any(|known| is(name, known)) {
            let name = String::from_utf8_lossy(name).into_owned();
            head.append_header(name, value)?;
        }
    }
    if !cookies.is_empty() && filter.passes(COOKIE.as_str().as_bytes()) {
        // HTTP/2 may send each cookie in a field of its own, which HTTP/1.1 does not know (RFC 9113 8.2.3).
        head.insert_header("Cookie", cookies.join(&b"; "[..]))?;
    }
    let target = RequestTarget::of(request);
    if let Some(origin) = ctx.origin {
        let host = Some(target.authority).filter(|host| !host.is_empty());
        origin.set_forwarded_fields(request.fields, host, connection, head)?;
    }
    head.insert_header("X-Forwarded-Method", request.method.as_str())?;
    let uri = target.without_authority(request.method);
    head.insert_header("X-Forwarded-Uri", &*uri)?;
    if let Some(id) = ctx
        .id
        .as_ref()
        .filter(|_| !head.headers.contains_key(&REQUEST_ID))
    {
        head.insert_header("X-Request-Id", RequestId::as_bytes(id))?;
    }
    http_rules::set_request_hop_fields(request, None, head, ctx.active.via.as_ref())
}

fn decision(auth: &ForwardAuth, response: SubResponse) -> Result<CopiedFields, Box<LocalMessage>> {
    let SubResponse { head, body } = response;
    if head.status.is_success() {
        return Ok(CopiedFields::new(&auth.copy_headers, &head.headers));
    }
    let status = head.status.as_u16();
    let termination = match head.status.is_server_error() {
        true => TerminationReason::AuthFailed,
        false => TerminationReason::Unauthorized,
    };
    let filter = ResponseFieldFilter::new((&head).into());
    let mut message = LocalMessage::of_service(termination, status);
    for (name, value) in &head.headers {
        let is_own = [CONTENT_LENGTH, TRANSFER_ENCODING, DATE].contains(name);
        if !is_own && filter.passes(name.as_str().as_bytes()) {
            message.fields.append(name.clone(), value.clone());
        }
    }
    message.body = body;
    Err(Box::new(message))
}
