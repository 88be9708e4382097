//! Forward authentication: a service decides about each request.

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
    connection: ConnectionInfo,
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
    connection: ConnectionInfo,
    ctx: &RequestContext,
) -> pingora::Result<SubResponse> {
    let (target, path, host) = match (&auth.url, &auth.pool) {
        (Some(url), _) => {
            let host = url.authority().into_bytes();
            (SubrequestTarget::Url(url), url.path.as_str(), host)
        }
        (None, Some(pool)) => {
            let pool = &ctx.active.pools[pool.index];
            let client = ctx.origin.map(|origin| origin.client);
            if admission::maintenance(pool, client).is_some() {
                return no_host(pool.name(), "it is in maintenance");
            }
            let lease = match lease_for_subrequest(pool, request, client) {
                Ok(lease) => lease,
                Err(error) => return no_host(pool.name(), &error.to_string()),
            };
            let asked_for = RequestTarget::of(request).authority;
            let host = match pool.host_header() {
                HostHeader::Preserve if !asked_for.is_empty() => asked_for.to_vec(),
                _ => lease.member().host_header().as_bytes().to_vec(),
            };
            let path = auth.path.as_deref().unwrap_or("/");
            (SubrequestTarget::Host(lease), path, host)
        }
        (None, None) => return no_host("", "there is no service"),
    };
    let mut head = RequestHeader::build(Method::GET, path.as_bytes(), None)?;
    head.insert_header(HOST, host)?;
    set_fields(&mut head, (request, filter), connection, ctx)?;
    let limits = SubrequestLimits {
        total: auth.timeout,
        body: BodyLimit::Keep(MAX_BODY),
        head: &ctx.active.limits,
    };
    let request = Subrequest::new(head, bytes::Bytes::new())?;
    proxy.subrequests.send(target, &request, limits).await
}

fn no_host<T>(pool: &str, reason: &str) -> pingora::Result<T> {
    Error::e_explain(ErrorType::HTTPStatus(503), format!("pool {pool}: {reason}"))
}

/// Sets the client's fields, and those that say what it asks for.
fn set_fields(
    head: &mut RequestHeader,
    (request, filter): (RequestView<'_>, &RequestFieldFilter<'_>),
    connection: ConnectionInfo,
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
