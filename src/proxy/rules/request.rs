//! Which requests are refused, and what changes in the others.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, MAX_FORWARDS, UPGRADE};
use http::{HeaderName, Method, Version};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::fields::{self, Coding, Length};
use super::{Via, authority};
use crate::config::{ClientIdentity, Limits, Underscores};
use crate::identity_fields;
use crate::proxy::answer::{self, Answer, Connection};
use crate::proxy::client::Body;
use crate::proxy::site::Site;
use crate::proxy::target::{Form, Target};
use crate::record::Ending;

/// Answers a request that must not be passed on, and tells what it ended with if it did. What may be said in several ways is said in
/// one afterwards.
pub(in crate::proxy) async fn refuse(session: &mut Session, site: &Site) -> Result<Option<Ending>> {
    let raw = session
        .as_http1()
        .map(|http1| http1.get_headers_raw_bytes());
    match check(session.req_header(), raw.as_deref(), &site.limits) {
        Err((answer, Connection::Keep)) => {
            answer::send(session, answer, Connection::Keep).await?;
            return Ok(Some(answer.ending()));
        }
        Err((answer, Connection::Close)) => {
            answer::send_last(session, answer, true).await?;
            return Ok(Some(answer.ending()));
        }
        Ok(Length::Repeated(length)) => {
            session
                .req_header_mut()
                .insert_header(CONTENT_LENGTH, length)?;
        }
        Ok(_) => {}
    }
    if says_close(session.req_header()) {
        session.set_keepalive(None);
    }
    Ok(None)
}

/// Judges a request; `raw` is its head as sent, where there is such a thing. An error is the answer to it.
fn check(
    request: &RequestHeader,
    raw: Option<&[u8]>,
    limits: &Limits,
) -> Result<Length, (Answer, Connection)> {
    let close = |answer| Err((answer, Connection::Close));
    let target = request.raw_path().len();
    if target > limits.target {
        return close(Answer::TARGET_TOO_LONG);
    }
    let head = raw.map_or_else(|| target + fields::size(&request.headers), <[u8]>::len);
    if head > limits.head {
        return close(Answer::HEAD_TOO_LARGE);
    }
    if request.headers.len() > limits.fields {
        return close(Answer::TOO_MANY_FIELDS);
    }
    if request.method == Method::CONNECT {
        // What comes behind it is a stranger's bytes as far as its client is concerned.
        return close(Answer::NO_CONNECT);
    }
    let Some(form) = Form::of(request) else {
        return close(Answer::BAD_TARGET);
    };
    if raw.is_some_and(has_fragment) {
        return close(Answer::BAD_TARGET);
    }
    if !has_valid_host(request, form) {
        return close(Answer::BAD_HOST);
    }
    match fields::coding(&request.headers) {
        Coding::Absent => {}
        // Pingora has taken Content-Length out already.
        _ if request.version == Version::HTTP_10 || raw.is_some_and(has_length) => {
            return close(Answer::TWO_FRAMINGS);
        }
        Coding::Chunked => {}
        Coding::Unknown => return close(Answer::UNKNOWN_CODING),
    }
    let length = fields::content_length(&request.headers);
    match (length, limits.body) {
        (Length::Invalid, _) => return close(Answer::BAD_LENGTH),
        (Length::Plain(length) | Length::Repeated(length), Some(limit)) if length > limit => {
            return close(Answer::BODY_TOO_LARGE);
        }
        _ => {}
    }
    if request.method == Method::TRACE {
        // It would show whoever asks what proxies and browsers add to a request, credentials among it.
        return Err((Answer::NO_TRACE, Connection::Keep));
    }
    match max_forwards(request) {
        Err(Malformed) => close(Answer::BAD_MAX_FORWARDS),
        Ok(Some(0)) => Err((Answer::OPTIONS, Connection::Keep)),
        Ok(_) => Ok(length),
    }
}

/// The body that a head announces. If it does so in a way that is none, the request is refused, and the connection closed,
/// before a byte of it is looked at.
pub(in crate::proxy) fn announced_body(request: &RequestHeader) -> Body {
    if fields::coding(&request.headers) != Coding::Absent {
        return Body::chunked();
    }
    Body::Length(match fields::content_length(&request.headers) {
        Length::Absent => 0,
        Length::Plain(length) | Length::Repeated(length) => length,
        Length::Invalid => u64::MAX,
    })
}

/// Whether there is exactly one authority where there must be one, and it is valid. HTTP/1.0 did not know Host.
fn has_valid_host(request: &RequestHeader, form: Form) -> bool {
    let mut hosts = request.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let named = match form {
        Form::Absolute => Some(Target::of(request).authority),
        Form::Origin | Form::Asterisk => {
            let authority = request.uri.authority();
            authority.map(|authority| authority.as_str().as_bytes())
        }
    };
    second.is_none()
        && named.is_none_or(authority::is_valid)
        && match host {
            // A target without an authority goes with a Host without a value, RFC 9110 7.2.
            Some(host) => {
                authority::is_valid(host.as_bytes()) || (host.is_empty() && named.is_none())
            }
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

/// Removes what neither a route nor a host is to see: what an untrusted client says about itself, and fields with `_` in
/// their names.
pub(in crate::proxy) fn clean(request: &mut RequestHeader, site: &Site, trusted: bool) {
    let underscores = site.underscores == Underscores::Drop;
    drop_fields(request, |name| {
        (underscores && name.as_str().contains('_'))
            || (!trusted && claims_identity(name, &site.client_identity))
    });
}

/// Whether a client could lie about itself with a field.
fn claims_identity(name: &HeaderName, identity: &ClientIdentity) -> bool {
    let is_in = |names: &[HeaderName]| {
        let mut names = names.iter().map(|known| known.as_str().as_bytes());
        names.any(|known| identity_fields::is_same(name.as_str().as_bytes(), known))
    };
    match identity_fields::is_known(name) {
        true => !is_in(&identity.pass),
        false => is_in(&identity.drop),
    }
}

fn drop_fields(request: &mut RequestHeader, drops: impl Fn(&HeaderName) -> bool) {
    if !request.headers.keys().any(&drops) {
        return;
    }
    let names = request.headers.keys();
    let names: Vec<HeaderName> = names.filter(|name| drops(name)).cloned().collect();
    for name in &names {
        request.remove_header(name);
    }
}

/// Whether the client uses its connection for nothing more. Pingora looks at the first Connection field alone.
fn says_close(request: &RequestHeader) -> bool {
    let connection = request.headers.get_all(CONNECTION);
    connection.iter().nth(1).is_some()
        && fields::list(connection).any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// Max-Forwards is not a number.
#[derive(Debug, PartialEq, Eq)]
struct Malformed;

/// How many proxies more the request may pass, if it says so; only OPTIONS, and TRACE, can.
fn max_forwards(request: &RequestHeader) -> Result<Option<u64>, Malformed> {
    if request.method != Method::OPTIONS {
        return Ok(None);
    }
    let mut said = request.headers.get_all(MAX_FORWARDS).iter();
    match (said.next(), said.next()) {
        (None, _) => Ok(None),
        (Some(one), None) if !one.is_empty() && one.as_bytes().iter().all(u8::is_ascii_digit) => {
            // More than can be counted is as good as the most that can.
            let count = fields::number(one.as_bytes());
            Ok(Some(count.unwrap_or(i64::MAX as u64)))
        }
        _ => Err(Malformed),
    }
}

/// Whether a request asks for a WebSocket. `Upgrade` is one only as an option of the connection, RFC 9110 7.8, and the
/// handshake is a GET, RFC 6455 4.1.
pub(in crate::proxy) fn asks_for_websocket(request: &RequestHeader) -> bool {
    let protocol = request.headers.get(UPGRADE);
    protocol.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && request.version == Version::HTTP_11
        && request.method == Method::GET
        && fields::list(request.headers.get_all(CONNECTION))
            .any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// Sets what changes in a request from hop to hop. `received` is the request before its Connection field was followed,
/// so that a client cannot have any of this taken out.
pub(in crate::proxy) fn forward(
    received: &RequestHeader,
    request: &mut RequestHeader,
    via: Option<&Via>,
) -> Result<()> {
    if let Ok(Some(count)) = max_forwards(received) {
        request.insert_header("Max-Forwards", count.saturating_sub(1))?;
    }
    if request.headers.contains_key(UPGRADE) && !asks_for_websocket(received) {
        // Pingora looks at the one field alone.
        request.remove_header(&UPGRADE);
        request.remove_header(&CONNECTION);
    }
    if let Some(via) = via {
        request.append_header("Via", via.of(received.version))?;
    }
    Ok(())
}

/// Adds `more` bytes to what has been `received` of a body.
///
/// # Errors
/// 413 if that is beyond the limit.
pub(in crate::proxy) fn body_grew(
    received: &mut u64,
    more: usize,
    limit: Option<u64>,
) -> Result<()> {
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
