//! Which requests are refused, and what changes in the others.

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
use crate::proxy::local_response::{LocalResponse, Persistence};
use crate::proxy::request_target::{RequestTarget, TargetForm};
use crate::spoofable_headers;

/// Judges a request; `raw` is its head as sent, where there is such a thing. An error is the answer to it.
pub(crate) fn validate_request(
    request: RequestView<'_>,
    raw: Option<&[u8]>,
    limits: &Limits,
) -> Result<ContentLength, (LocalResponse, Persistence)> {
    let close = |answer| Err((answer, Persistence::Close));
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
        // What comes behind it is a stranger's bytes as far as its client is concerned.
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
        // Pingora has taken Content-Length out already.
        _ if request.version == Version::HTTP_10 || raw.is_some_and(has_length) => {
            return close(LocalResponse::TWO_FRAMINGS);
        }
        TransferCoding::Chunked => {}
        TransferCoding::Unknown => return close(LocalResponse::UNKNOWN_CODING),
    }
    let length = fields::content_length(request.fields);
    match (length, limits.body) {
        (ContentLength::Invalid, _) => return close(LocalResponse::BAD_LENGTH),
        (ContentLength::Canonical(length) | ContentLength::NonCanonical(length), Some(limit))
            if length > limit =>
        {
            return close(LocalResponse::BODY_TOO_LARGE);
        }
        _ => {}
    }
    if *request.method == Method::TRACE {
        // It would show whoever asks what proxies and browsers add to a request, credentials among it.
        return Err((LocalResponse::NO_TRACE, Persistence::KeepAlive));
    }
    match max_forwards(request) {
        Err(InvalidMaxForwards) => close(LocalResponse::BAD_MAX_FORWARDS),
        Ok(Some(0)) => Err((LocalResponse::OPTIONS, Persistence::KeepAlive)),
        Ok(_) => Ok(length),
    }
}

/// The body that a head announces. If it does so in a way that is none, the request is refused, and the connection closed,
/// before a byte of it is looked at.
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

/// Whether there is exactly one authority where there must be one, and it is valid. HTTP/1.0 did not know Host.
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
            // A target without an authority goes with a Host without a value, RFC 9110 7.2.
            Some(host) => authority::is_valid(host) || (host.is_empty() && named.is_none()),
            None => match request.version {
                Version::HTTP_11 => false,
                Version::HTTP_2 => named.is_some(),
                _ => true,
            },
        }
}

/// Whether the target has a `#`. Pingora cuts it off with what follows, so only the bytes on the wire tell.
fn has_fragment(raw: &[u8]) -> bool {
    let line = raw.trim_ascii_start();
    let mut words = line.split(|byte| byte.is_ascii_whitespace());
    words.nth(1).is_some_and(|target| target.contains(&b'#'))
}

/// Whether Content-Length is among the fields of a head as sent.
fn has_length(raw: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length:";
    raw.split(|&byte| byte == b'\n')
        .filter_map(|line| line.get(..NAME.len()))
        .any(|start| start.eq_ignore_ascii_case(NAME))
}

/// Whether neither a route nor a host is to see a field: what an untrusted client says about itself, and fields with `_`
/// in their names.
pub(crate) fn is_dropped(name: &[u8], active: &ActiveConfig, trusted: bool) -> bool {
    (active.underscores == Underscores::Drop && name.contains(&b'_'))
        || (!trusted && claims_identity(name, &active.client_identity))
}

/// Whether a client could lie about itself with a field.
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

/// Whether the client uses its connection for nothing more.
pub(crate) fn has_connection_close(request: RequestView<'_>) -> bool {
    fields::has_option(request.get_all(&CONNECTION), b"close")
}

/// Max-Forwards is not a number.
#[derive(Debug, PartialEq, Eq)]
struct InvalidMaxForwards;

/// How many proxies more the request may pass, if it says so; only OPTIONS, and TRACE, can.
fn max_forwards(request: RequestView<'_>) -> Result<Option<u64>, InvalidMaxForwards> {
    if *request.method != Method::OPTIONS {
        return Ok(None);
    }
    let mut said = request.get_all(&MAX_FORWARDS);
    match (said.next(), said.next()) {
        (None, _) => Ok(None),
        (Some(one), None) if !one.is_empty() && one.iter().all(u8::is_ascii_digit) => {
            // More than can be counted is as good as the most that can.
            let count = fields::number(one);
            Ok(Some(count.unwrap_or(i64::MAX as u64)))
        }
        _ => Err(InvalidMaxForwards),
    }
}

/// The protocol that a request asks to upgrade to, as `allowed` has it, if it is one of them. `Upgrade` asks for something
/// only as an option of the connection, RFC 9110 7.8, and of several protocols it would be the host that chooses. The
/// handshake of a WebSocket is a GET, RFC 6455 4.1, and HEAD has no answer that a tunnel could begin behind.
pub(crate) fn requested_upgrade<'a>(
    request: RequestView<'_>,
    allowed: &'a [Arc<str>],
) -> Option<&'a Arc<str>> {
    let mut asked = request.get_all(&UPGRADE);
    let (Some(asked), None) = (asked.next(), asked.next()) else {
        return None;
    };
    let is_asked = |known: &&Arc<str>| asked.eq_ignore_ascii_case(known.as_bytes());
    let allowed = allowed.iter().find(is_asked)?;
    let may_be = match *request.method {
        Method::GET => true,
        Method::HEAD => false,
        _ => !allowed.eq_ignore_ascii_case("websocket"),
    };
    let is_option = || fields::has_option(request.get_all(&CONNECTION), b"upgrade");
    (may_be && request.version == Version::HTTP_11 && is_option()).then_some(allowed)
}

/// Which fields of a request its host gets: all but those that concern the client's connection, which are those of RFC
/// 9110 7.6.1 and those that Connection names. What is to be framed or to be switched to is said anew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestFieldFilter<'a> {
    request: RequestView<'a>,
    /// Whether Connection names fields.
    has_named_fields: bool,
}

impl<'a> RequestFieldFilter<'a> {
    /// Those of `request`. An error is the answer to a Connection field that names what it must not.
    pub(crate) fn new(request: RequestView<'a>) -> Result<Self, LocalResponse> {
        let mut names = false;
        let mut count = 0;
        for option in fields::list(request.get_all(&CONNECTION)) {
            count += 1;
            let is = |name: &&str| option.eq_ignore_ascii_case(name.as_bytes());
            if count > MOST_OPTIONS
                || !option.iter().copied().all(is_token)
                || NEVER_NAMED.iter().any(&is)
            {
                return Err(LocalResponse::BAD_CONNECTION);
            }
            names |= !["close", "keep-alive", "upgrade"].iter().any(is);
        }
        Ok(RequestFieldFilter {
            request,
            has_named_fields: names,
        })
    }

    pub(crate) fn passes(&self, name: &[u8]) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => false,
            7 if is("trailer") || is("upgrade") => false,
            10 if is("connection") || is("keep-alive") => false,
            14 if is("http2-settings") => false,
            // A body stays one whatever Connection names.
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

/// Options that a Connection field may have, as Pingora takes them.
const MOST_OPTIONS: usize = 9;

/// Fields that no client may have taken out.
const NEVER_NAMED: [&str; 4] = [
    "host",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// Sets what changes in a request from hop to hop. `received` is the request before its Connection field was followed,
/// so that a client cannot have any of this taken out; `upgrade` is what it [asks for](requested_upgrade).
pub(crate) fn set_request_hop_fields(
    received: RequestView<'_>,
    upgrade: Option<&str>,
    request: &mut impl HeaderEditor,
    via: Option<&Via>,
) -> Result<()> {
    if let Ok(Some(count)) = max_forwards(received) {
        let mut digits = itoa::Buffer::new();
        let left = digits.format(count.saturating_sub(1));
        request.set("Max-Forwards", left.as_bytes())?;
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

/// Adds `more` bytes to what has been `received` of a body.
///
/// # Errors
/// 413 if that is beyond the limit.
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
