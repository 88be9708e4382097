//! Rules for requests: which are refused, and which fields are dropped, passed on or changed.

use std::sync::Arc;

use http::header::{CONNECTION, HOST, MAX_FORWARDS, UPGRADE};
use http::{HeaderName, Method, Version};
use pingora::{Error, ErrorType, Result};

use super::fields::{self, ContentLength, TransferCoding};
use super::{Via, authority};
use crate::config::{ClientIdentity, Limits, Underscores};
use crate::message::RequestView;
use crate::message::body_decoder::BodyDecoder;
use crate::message::chunked::is_token;
use crate::proxy::active_config::ActiveConfig;
use crate::proxy::forwarding::header_editor::HeaderEditor;
use crate::proxy::local_message::Persistence;
use crate::proxy::local_response::LocalResponse;
use crate::proxy::request_target::{RequestTarget, TargetForm};
use crate::spoofable_headers;

/// Validates a request. `raw` is its head as sent, for HTTP/1. The error is the response, and whether the connection is
/// kept.
pub(crate) fn validate_request(
    request: RequestView<'_>,
    raw: Option<&[u8]>,
    limits: &Limits,
) -> Result<ContentLength, (LocalResponse, Persistence)> {
    let close = |response| Err((response, Persistence::Close));
    let target = request.target.len();
    if target > limits.target {
        return close(LocalResponse::TARGET_TOO_LONG);
    }
    let head = raw.map_or_else(|| target + fields::size(request.fields), <[u8]>::len);
    if head > limits.head {
        return close(LocalResponse::HEAD_TOO_LARGE);
    }
    if request.fields.len() > limits.fields {
        return close(LocalResponse::TOO_MANY_FIELDS);
    }
    if *request.method == Method::CONNECT {
        // The client would treat the following bytes as a tunnel to another server.
        return close(LocalResponse::NO_CONNECT);
    }
    let Some(form) = TargetForm::of(request) else {
        return close(LocalResponse::BAD_TARGET);
    };
    if raw.is_some_and(has_fragment) {
        return close(LocalResponse::BAD_TARGET);
    }
    if !has_valid_host(request, form) {
        return close(LocalResponse::BAD_HOST);
    }
    match fields::coding(request.fields) {
        TransferCoding::Absent => {}
        // Pingora has already removed Content-Length, so only the raw head shows that there was one.
        _ if request.version == Version::HTTP_10 || raw.is_some_and(has_length) => {
            return close(LocalResponse::TWO_FRAMINGS);
        }
        TransferCoding::Chunked => {}
        TransferCoding::Unknown => return close(LocalResponse::UNKNOWN_CODING),
    }
    let length = fields::content_length(request.fields);
    if length == ContentLength::Invalid {
        return close(LocalResponse::BAD_LENGTH);
    }
    if is_longer(length, limits.body) {
        return close(LocalResponse::BODY_TOO_LARGE);
    }
    if *request.method == Method::TRACE {
        // TRACE would show a script what proxies and browsers add to a request, including credentials.
        return Err((LocalResponse::NO_TRACE, Persistence::KeepAlive));
    }
    match max_forwards(request) {
        Err(InvalidMaxForwards) => close(LocalResponse::BAD_MAX_FORWARDS),
        Ok(Some(0)) => Err((LocalResponse::OPTIONS, Persistence::KeepAlive)),
        Ok(_) => Ok(length),
    }
}

/// Whether a request announces a body of more than `limit` bytes.
pub(crate) fn exceeds(request: RequestView<'_>, limit: Option<u64>) -> bool {
    is_longer(fields::content_length(request.fields), limit)
}

fn is_longer(length: ContentLength, limit: Option<u64>) -> bool {
    match (length, limit) {
        (ContentLength::Canonical(length) | ContentLength::NonCanonical(length), Some(limit)) => {
            length > limit
        }
        _ => false,
    }
}

/// A decoder for the body that the head announces. If the framing is invalid, the request is refused and the connection
/// closed before a byte of the body is read.
pub(crate) fn request_body(request: RequestView<'_>) -> BodyDecoder {
    if fields::coding(request.fields) != TransferCoding::Absent {
        return BodyDecoder::chunked();
    }
    BodyDecoder::Length(match fields::content_length(request.fields) {
        ContentLength::Absent => 0,
        ContentLength::Canonical(length) | ContentLength::NonCanonical(length) => length,
        ContentLength::Invalid => u64::MAX,
    })
}

/// Whether the request has exactly one valid authority where it needs one. HTTP/1.0 does not require Host.
fn has_valid_host(request: RequestView<'_>, form: TargetForm) -> bool {
    let mut hosts = request.get_all(&HOST);
    let (host, second) = (hosts.next(), hosts.next());
    let named = match form {
        TargetForm::Absolute => Some(RequestTarget::of(request).authority),
        TargetForm::Origin | TargetForm::Asterisk => request.authority,
    };
    second.is_none()
        && named.is_none_or(authority::is_valid)
        && match host {
            // With an empty Host the target has no authority either, RFC 9110 7.2.
            Some(host) => authority::is_valid(host) || (host.is_empty() && named.is_none()),
            None => match request.version {
                Version::HTTP_11 => false,
                Version::HTTP_2 => named.is_some(),
                _ => true,
            },
        }
}

/// Whether the target contains `#`. Pingora cuts off the fragment, so only the raw head shows it.
fn has_fragment(raw: &[u8]) -> bool {
    let line = raw.trim_ascii_start();
    let mut words = line.split(|byte| byte.is_ascii_whitespace());
    words.nth(1).is_some_and(|target| target.contains(&b'#'))
}

/// Whether Content-Length is among the fields of a raw head.
fn has_length(raw: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length:";
    raw.split(|&byte| byte == b'\n')
        .filter_map(|line| line.get(..NAME.len()))
        .any(|start| start.eq_ignore_ascii_case(NAME))
}

/// Whether a field is dropped before routing: identity claims of an untrusted client, and fields with `_` in their
/// names if those are configured to be dropped.
pub(crate) fn is_dropped(name: &[u8], active: &ActiveConfig, trusted: bool) -> bool {
    (active.underscores == Underscores::Drop && name.contains(&b'_'))
        || (!trusted && claims_identity(name, &active.client_identity))
}

/// Whether a client could claim a false identity with a field.
fn claims_identity(name: &[u8], identity: &ClientIdentity) -> bool {
    let is_in = |names: &[HeaderName]| {
        let mut names = names.iter().map(|known| known.as_str().as_bytes());
        names.any(|known| spoofable_headers::is_same_name(name, known))
    };
    match spoofable_headers::is_spoofable(name) {
        true => !is_in(&identity.pass),
        false => is_in(&identity.drop),
    }
}

/// Whether the client will close the connection after this request.
pub(crate) fn has_connection_close(request: RequestView<'_>) -> bool {
    fields::has_option(request.get_all(&CONNECTION), b"close")
}

/// The Max-Forwards field is not a number.
#[derive(Debug, PartialEq, Eq)]
struct InvalidMaxForwards;

/// The remaining number of proxies that the request may pass, if it sets one. HTTP defines this for OPTIONS and TRACE
/// only.
fn max_forwards(request: RequestView<'_>) -> Result<Option<u64>, InvalidMaxForwards> {
    if *request.method != Method::OPTIONS {
        return Ok(None);
    }
    let mut values = request.get_all(&MAX_FORWARDS);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(one), None) if !one.is_empty() && one.iter().all(u8::is_ascii_digit) => {
            // A number too large to parse counts as the largest one.
            let count = fields::number(one);
            Ok(Some(count.unwrap_or(i64::MAX as u64)))
        }
        _ => Err(InvalidMaxForwards),
    }
}

/// The protocol in `allowed` to which a request asks to upgrade. Upgrade only counts as an option of Connection, RFC
/// 9110 7.8. A list of several protocols is ignored, because the host would choose among them. The WebSocket handshake
/// is a GET, RFC 6455 4.1, and after the response to a HEAD no tunnel can begin. Clients of HTTP/2 cannot send these fields:
/// there they stand for extended CONNECT.
pub(crate) fn requested_upgrade<'a>(
    request: RequestView<'_>,
    allowed: &'a [Arc<str>],
) -> Option<&'a Arc<str>> {
    let mut requested = request.get_all(&UPGRADE);
    let (Some(requested), None) = (requested.next(), requested.next()) else {
        return None;
    };
    let is_requested = |known: &&Arc<str>| requested.eq_ignore_ascii_case(known.as_bytes());
    let allowed = allowed.iter().find(is_requested)?;
    let is_allowed_method = match *request.method {
        Method::GET => true,
        Method::HEAD => false,
        _ => !allowed.eq_ignore_ascii_case("websocket"),
    };
    let is_option = || fields::has_option(request.get_all(&CONNECTION), b"upgrade");
    let is_allowed_version = matches!(request.version, Version::HTTP_11 | Version::HTTP_2);
    (is_allowed_method && is_allowed_version && is_option()).then_some(allowed)
}

/// Selects the request fields that are forwarded: all except the hop-by-hop fields, which are those of RFC 9110 7.6.1
/// and those that Connection names. The driver sets framing and upgrade fields itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestFieldFilter<'a> {
    request: RequestView<'a>,
    /// Whether Connection names any fields.
    has_named_fields: bool,
}

impl<'a> RequestFieldFilter<'a> {
    /// The filter for `request`. The error is the response to a Connection field that names a field it must not.
    pub(crate) fn new(request: RequestView<'a>) -> Result<Self, LocalResponse> {
        let mut has_named_fields = false;
        let mut count = 0;
        for option in fields::list(request.get_all(&CONNECTION)) {
            count += 1;
            let is = |name: &&str| option.eq_ignore_ascii_case(name.as_bytes());
            if count > MAX_CONNECTION_OPTIONS
                || !option.iter().copied().all(is_token)
                || NEVER_NAMED.iter().any(&is)
            {
                return Err(LocalResponse::BAD_CONNECTION);
            }
            has_named_fields |= !["close", "keep-alive", "upgrade"].iter().any(is);
        }
        Ok(RequestFieldFilter {
            request,
            has_named_fields,
        })
    }

    pub(crate) fn passes(&self, name: &[u8]) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => false,
            7 if is("trailer") || is("upgrade") => false,
            10 if is("connection") || is("keep-alive") => false,
            14 if is("http2-settings") => false,
            // Connection cannot remove Content-Length, because the framing of the body depends on it.
            14 if is("content-length") => true,
            16 if is("proxy-connection") => false,
            17 if is("transfer-encoding") => false,
            18 if is("proxy-authenticate") => false,
            19 if is("proxy-authorization") => false,
            _ => !self.is_named(name),
        }
    }

    fn is_named(&self, name: &[u8]) -> bool {
        self.has_named_fields && fields::has_option(self.request.get_all(&CONNECTION), name)
    }
}

/// Maximum number of options in the Connection field, the same as in Pingora.
const MAX_CONNECTION_OPTIONS: usize = 9;

/// Fields that a client must not remove by naming them in Connection.
const NEVER_NAMED: [&str; 4] = [
    "host",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// Sets the fields of a request that change at every hop. `received` is the original request, so a client cannot
/// suppress them by naming them in Connection. `upgrade` is the [requested upgrade](requested_upgrade).
pub(crate) fn set_request_hop_fields(
    received: RequestView<'_>,
    upgrade: Option<&str>,
    request: &mut impl HeaderEditor,
    via: Option<&Via>,
) -> Result<()> {
    if let Ok(Some(count)) = max_forwards(received) {
        let mut digits = itoa::Buffer::new();
        let remaining = digits.format(count.saturating_sub(1));
        request.set("Max-Forwards", remaining.as_bytes())?;
    }
    if let Some(protocol) = upgrade {
        request.set("Connection", b"upgrade")?;
        request.set("Upgrade", protocol.as_bytes())?;
    }
    if let Some(via) = via {
        request.append("Via", via.entry_for(received.version))?;
    }
    Ok(())
}

/// Adds `more` bytes to the count of `received` body bytes.
///
/// # Errors
/// 413 if the count exceeds `limit`.
pub(crate) fn count_body_bytes(received: &mut u64, more: usize, limit: Option<u64>) -> Result<()> {
    *received = received.saturating_add(more as u64);
    match limit {
        Some(limit) if *received > limit => Err(Error::explain(
            ErrorType::HTTPStatus(413),
            format!("the body has more than {limit} bytes"),
        )
        .into_down()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
