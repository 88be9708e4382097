//! Spans as OTLP has them, with OpenTelemetry's names for what HTTP requests have in common: one for the request as this
//! proxy's client sees it, and in it one for each attempt as a host sees it.

use std::net::IpAddr;
use std::time::SystemTime;

use http::{Method, Version};

use super::attribute::{flag, integer, milliseconds, text};
use super::ended::{Ended, Head};
use super::otlp::{KeyValue, Kind, Span, Status, StatusCode};
use crate::record::{Attempt, Ending, Reason};

/// In a span's flags: the trace is recorded. What W3C's own flags say.
const SAMPLED: u32 = 0x01;
/// It is known whether the parent is another process's span, ...
const HAS_IS_REMOTE: u32 = 0x100;
/// ... and it is.
const IS_REMOTE: u32 = 0x200;
/// What stands for a method that is not one of HTTP's own, of which a client could make up any number.
const OTHER_METHOD: &str = "_OTHER";

/// The spans of a request, its own first.
pub(super) fn spans(ended: &Ended) -> Vec<Span> {
    let mut spans = Vec::with_capacity(1 + ended.attempts.len());
    spans.push(of_request(ended));
    let numbered = ended.attempts.iter().enumerate();
    spans.extend(numbered.filter_map(|(number, attempt)| of_attempt(ended, number, attempt)));
    spans
}

fn of_request(ended: &Ended) -> Span {
    let remote = if ended.trace.parent.is_some() {
        IS_REMOTE
    } else {
        0
    };
    let is_failure = ended.status.is_some_and(|status| status >= 500)
        || matches!(
            ended.ending,
            Ending::Internal
                | Ending::ConnectFailed
                | Ending::HostTimeout
                | Ending::HostReset
                | Ending::HostMalformed
        );
    Span {
        trace_id: ended.trace.id.to_be_bytes().to_vec(),
        span_id: ended.trace.span.to_be_bytes().to_vec(),
        parent_span_id: ended
            .trace
            .parent
            .map_or_else(Vec::new, |parent| parent.to_be_bytes().to_vec()),
        flags: SAMPLED | HAS_IS_REMOTE | remote,
        name: name(ended),
        kind: Kind::Server.into(),
        start_time_unix_nano: nanoseconds(ended.at),
        end_time_unix_nano: nanoseconds(ended.at + ended.took),
        attributes: attributes_of_request(ended),
        status: is_failure.then(|| failed(ended.ending.code())),
    }
}

fn attributes_of_request(ended: &Ended) -> Vec<KeyValue> {
    let mut list = vec![
        text("url.scheme", if ended.tls { "https" } else { "http" }),
        integer("http.request.body.size", ended.received),
        integer("http.response.body.size", ended.sent),
        text("ballast.ending", ended.ending.code()),
        milliseconds("ballast.queued_ms", ended.queued),
    ];
    if let Some(head) = &ended.head {
        list.extend(attributes_of_head(head));
    }
    if let Some(client) = ended.client {
        list.push(text("client.address", client.to_string()));
    }
    if let Some(status) = ended.status {
        list.push(integer("http.response.status_code", status));
    }
    match ended.status {
        Some(status) if status >= 500 => list.push(text("error.type", status.to_string())),
        _ if ended.ending == Ending::Complete => {}
        _ => list.push(text("error.type", ended.ending.code())),
    }
    if let Some(pool) = &ended.pool {
        list.push(text("ballast.pool", pool.name()));
    }
    if let Some(id) = &ended.id {
        list.push(text("ballast.request_id", id));
    }
    list
}

fn attributes_of_head(head: &Head) -> Vec<KeyValue> {
    let mut list = method(head);
    list.push(text("url.path", &head.path));
    if let Some(version) = version(head.version) {
        list.push(text("network.protocol.version", version));
    }
    if let Some(authority) = &head.authority {
        list.extend(server(authority));
    }
    if let Some(agent) = &head.user_agent {
        list.push(text("user_agent.original", agent));
    }
    list
}

fn of_attempt(ended: &Ended, number: usize, attempt: &Attempt) -> Option<Span> {
    let start = ended.at + attempt.began.saturating_duration_since(ended.began);
    let rest = (ended.began + ended.took).saturating_duration_since(attempt.began);
    let end = start + attempt.took.unwrap_or(rest);
    let is_failure = !matches!(attempt.reason, Reason::Ok | Reason::Client)
        || attempt.status.is_some_and(|status| status >= 400);
    Some(Span {
        trace_id: ended.trace.id.to_be_bytes().to_vec(),
        span_id: attempt.span?.to_be_bytes().to_vec(),
        parent_span_id: ended.trace.span.to_be_bytes().to_vec(),
        flags: SAMPLED | HAS_IS_REMOTE,
        name: name(ended),
        kind: Kind::Client.into(),
        start_time_unix_nano: nanoseconds(start),
        end_time_unix_nano: nanoseconds(end),
        attributes: attributes_of_attempt(ended, number, attempt),
        status: is_failure.then(|| failed(attempt.reason.code())),
    })
}

fn attributes_of_attempt(ended: &Ended, number: usize, attempt: &Attempt) -> Vec<KeyValue> {
    let mut list = ended.head.as_ref().map_or_else(Vec::new, method);
    list.extend(server(attempt.host.as_str()));
    list.extend([
        text("network.peer.address", attempt.address.ip().to_string()),
        integer("network.peer.port", attempt.address.port()),
        text("ballast.host", attempt.host.as_str()),
        text("ballast.why", attempt.why.code()),
        text("ballast.reason", attempt.reason.code()),
    ]);
    if let Some(connected) = attempt.connected {
        list.push(milliseconds("ballast.connect_ms", connected));
        list.push(flag("ballast.reused", attempt.reused));
    }
    if let Some(answered) = attempt.answered {
        list.push(milliseconds("ballast.first_byte_ms", answered));
    }
    if let Some(status) = attempt.status {
        list.push(integer("http.response.status_code", status));
    }
    match attempt.status {
        Some(status) if status >= 400 => list.push(text("error.type", status.to_string())),
        _ if attempt.reason == Reason::Ok => {}
        _ => list.push(text("error.type", attempt.reason.code())),
    }
    if number > 0 {
        list.push(integer("http.request.resend_count", number as u64));
    }
    list
}

/// The name of a span: one of few, so neither the path nor a method that a client made up.
fn name(ended: &Ended) -> String {
    let method = ended.head.as_ref().and_then(|head| known(&head.method));
    method.unwrap_or("HTTP").to_owned()
}

fn method(head: &Head) -> Vec<KeyValue> {
    match known(&head.method) {
        Some(method) => vec![text("http.request.method", method)],
        None => vec![
            text("http.request.method", OTHER_METHOD),
            text("http.request.method_original", &head.method),
        ],
    }
}

/// A method that is one of HTTP's own.
fn known(method: &str) -> Option<&str> {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::CONNECT,
        Method::OPTIONS,
        Method::TRACE,
        Method::PATCH,
    ];
    KNOWN.iter().any(|known| known == method).then_some(method)
}

/// Name and port of an authority, the port if it has one.
fn server(authority: &str) -> Vec<KeyValue> {
    let split = authority.rsplit_once(':');
    let port = split.and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
    // The last group of an IPv6 address without a port is none.
    let (name, port) = match port {
        Some((name, port)) if authority.parse::<IpAddr>().is_err() => (name, Some(port)),
        _ => (authority, None),
    };
    let name = name.trim_matches(['[', ']']);
    let mut list = vec![text("server.address", name)];
    list.extend(port.map(|port| integer("server.port", port)));
    list
}

fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

fn failed(code: &str) -> Status {
    Status {
        message: code.to_owned(),
        code: StatusCode::Error.into(),
    }
}

/// Since 1970; a clock before that says 0.
fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_authority_has_a_name_and_maybe_a_port() {
        let address = |name| text("server.address", name);
        let port = |port: u16| integer("server.port", port);
        assert_eq!(server("a.example"), [address("a.example")]);
        assert_eq!(server("a:81"), [address("a"), port(81)]);
        assert_eq!(server("[::1]:81"), [address("::1"), port(81)]);
        assert_eq!(server("::1"), [address("::1")]);
        assert_eq!(server("a:x"), [address("a:x")]);
    }

    #[test]
    fn methods_that_clients_make_up_are_one() {
        assert_eq!(known("GET"), Some("GET"));
        assert_eq!(known("get"), None);
    }

    #[test]
    fn a_moment_is_in_nanoseconds() {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(nanoseconds(moment), 1_500_000_000);
        assert_eq!(
            nanoseconds(SystemTime::UNIX_EPOCH - Duration::from_secs(1)),
            0
        );
    }
}
