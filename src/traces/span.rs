//! Spans as OTLP has them, with OpenTelemetry's names for what HTTP requests have in common: one for the request as this
//! proxy's client sees it, and in it one for each attempt as a host sees it.

use std::net::IpAddr;
use std::time::SystemTime;

use http::Version;

use super::ended::{Ended, Text};
use super::otlp::{Attributes, CLIENT, ERROR, Message, SERVER, field};
use crate::record::{Attempt, Ending, Reason};

/// In a span's flags: the trace is recorded. What W3C's own flags say.
const SAMPLED: u32 = 0x01;
/// It is known whether the parent is another process's span, ...
const HAS_IS_REMOTE: u32 = 0x100;
/// ... and it is.
const IS_REMOTE: u32 = 0x200;
/// What stands for a method that is not one of HTTP's own, of which a client could make up any number.
const OTHER: &str = "_OTHER";

/// Writes the span of a request.
pub(super) fn of_request(span: &mut Message, ended: &Ended) {
    let trace = ended.trace;
    span.bytes(field::TRACE_ID, &trace.id.to_be_bytes());
    span.bytes(field::SPAN_ID, &trace.span.to_be_bytes());
    if let Some(parent) = trace.parent {
        span.bytes(field::PARENT_SPAN_ID, &parent.to_be_bytes());
    }
    let remote = if trace.parent.is_some() { IS_REMOTE } else { 0 };
    span.fixed32(field::FLAGS, SAMPLED | HAS_IS_REMOTE | remote);
    span.bytes(field::NAME, name(ended).as_bytes());
    span.number(field::KIND, SERVER);
    span.fixed64(field::START_TIME, nanoseconds(ended.at));
    span.fixed64(field::END_TIME, nanoseconds(ended.at + ended.summary.took));
    describe_request(&mut span.attributes(field::ATTRIBUTES), ended);
    if ended.summary.is_failure() {
        fail(span, ended.summary.ending.code());
    }
}

fn describe_request(attributes: &mut Attributes<'_>, ended: &Ended) {
    attributes.text(
        "url.scheme",
        if ended.summary.tls { "https" } else { "http" },
    );
    attributes.integer("http.request.body.size", ended.summary.received);
    attributes.integer("http.response.body.size", ended.summary.sent);
    attributes.text("ballast.ending", ended.summary.ending.code());
    attributes.milliseconds("ballast.queued_ms", ended.summary.queued);
    describe_head(attributes, ended);
    if let Some(client) = ended.summary.client {
        attributes.address("client.address", client);
    }
    if let Some(status) = ended.summary.status {
        attributes.integer("http.response.status_code", status);
    }
    match ended.summary.status {
        Some(status) if status >= 500 => attributes.text("error.type", &status.to_string()),
        _ if ended.summary.ending == Ending::Complete => {}
        _ => attributes.text("error.type", ended.summary.ending.code()),
    }
    describe_text(attributes, "ballast.pool", ended, Text::Pool);
    describe_text(attributes, "ballast.request_id", ended, Text::Id);
}

fn describe_head(attributes: &mut Attributes<'_>, ended: &Ended) {
    describe_method(attributes, ended);
    describe_text(attributes, "url.path", ended, Text::Path);
    if let Some(version) = ended.summary.version.and_then(version) {
        attributes.text("network.protocol.version", version);
    }
    if let Some(authority) = ended.text(Text::Authority) {
        describe_server(attributes, &authority);
    }
    describe_text(attributes, "user_agent.original", ended, Text::UserAgent);
}

fn describe_text(attributes: &mut Attributes<'_>, key: &str, ended: &Ended, text: Text) {
    if let Some(text) = ended.text(text) {
        attributes.text(key, &text);
    }
}

/// Writes the span of one of a request's attempts; `false`: it has none.
pub(super) fn of_attempt(span: &mut Message, ended: &Ended, number: usize) -> bool {
    let attempt = &ended.attempts[number];
    let Some(id) = attempt.span else {
        return false;
    };
    let start = ended.at + attempt.began.saturating_duration_since(ended.summary.began);
    let rest = (ended.summary.began + ended.summary.took).saturating_duration_since(attempt.began);
    let end = start + attempt.took.unwrap_or(rest);
    span.bytes(field::TRACE_ID, &ended.trace.id.to_be_bytes());
    span.bytes(field::SPAN_ID, &id.to_be_bytes());
    span.bytes(field::PARENT_SPAN_ID, &ended.trace.span.to_be_bytes());
    span.fixed32(field::FLAGS, SAMPLED | HAS_IS_REMOTE);
    span.bytes(field::NAME, name(ended).as_bytes());
    span.number(field::KIND, CLIENT);
    span.fixed64(field::START_TIME, nanoseconds(start));
    span.fixed64(field::END_TIME, nanoseconds(end));
    describe_attempt(
        &mut span.attributes(field::ATTRIBUTES),
        ended,
        number,
        attempt,
    );
    if !matches!(attempt.reason, Reason::Ok | Reason::Client)
        || attempt.status.is_some_and(|status| status >= 400)
    {
        fail(span, attempt.reason.code());
    }
    true
}

fn describe_attempt(
    attributes: &mut Attributes<'_>,
    ended: &Ended,
    number: usize,
    attempt: &Attempt,
) {
    describe_method(attributes, ended);
    describe_server(attributes, attempt.host.as_str());
    attributes.address("network.peer.address", attempt.address.ip());
    attributes.integer("network.peer.port", attempt.address.port());
    attributes.text("ballast.host", attempt.host.as_str());
    attributes.text("ballast.why", attempt.why.code());
    attributes.text("ballast.reason", attempt.reason.code());
    if let Some(connected) = attempt.connected {
        attributes.milliseconds("ballast.connect_ms", connected);
        attributes.flag("ballast.reused", attempt.reused);
    }
    if let Some(answered) = attempt.answered {
        attributes.milliseconds("ballast.first_byte_ms", answered);
    }
    if let Some(status) = attempt.status {
        attributes.integer("http.response.status_code", status);
    }
    match attempt.status {
        Some(status) if status >= 400 => attributes.text("error.type", &status.to_string()),
        _ if attempt.reason == Reason::Ok => {}
        _ => attributes.text("error.type", attempt.reason.code()),
    }
    if number > 0 {
        attributes.integer("http.request.resend_count", number as u64);
    }
}

/// The name of a span: one of few, so neither the path nor a method that a client made up.
fn name(ended: &Ended) -> &'static str {
    let method = ended.text(Text::Method);
    method.and_then(|method| known(&method)).unwrap_or("HTTP")
}

fn describe_method(attributes: &mut Attributes<'_>, ended: &Ended) {
    let Some(method) = ended.text(Text::Method) else {
        return;
    };
    attributes.text("http.request.method", known(&method).unwrap_or(OTHER));
    if known(&method).is_none() {
        attributes.text("http.request.method_original", &method);
    }
}

/// A method that is one of HTTP's own.
fn known(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    KNOWN.into_iter().find(|known| *known == method)
}

fn describe_server(attributes: &mut Attributes<'_>, authority: &str) {
    let (name, port) = server(authority);
    attributes.text("server.address", name);
    if let Some(port) = port {
        attributes.integer("server.port", port);
    }
}

/// Name and port of an authority, the port if it has one.
fn server(authority: &str) -> (&str, Option<u16>) {
    let split = authority.rsplit_once(':');
    let port = split.and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
    // The last group of an IPv6 address without a port is none.
    let (name, port) = match port {
        Some((name, port)) if authority.parse::<IpAddr>().is_err() => (name, Some(port)),
        _ => (authority, None),
    };
    (name.trim_matches(['[', ']']), port)
}

fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

fn fail(span: &mut Message, code: &str) {
    let mut status = Message::default();
    status.bytes(field::STATUS_MESSAGE, code.as_bytes());
    status.number(field::STATUS_CODE, ERROR);
    span.bytes(field::STATUS, status.as_bytes());
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
        assert_eq!(server("a.example"), ("a.example", None));
        assert_eq!(server("a:81"), ("a", Some(81)));
        assert_eq!(server("[::1]:81"), ("::1", Some(81)));
        assert_eq!(server("::1"), ("::1", None));
        assert_eq!(server("a:x"), ("a:x", None));
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
