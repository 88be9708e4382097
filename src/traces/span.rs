//! Writes OTLP spans with OpenTelemetry's semantic conventions for HTTP: a server span for the request and, as its
//! children, a client span for each attempt.

use std::net::IpAddr;
use std::time::SystemTime;

use http::Version;

use super::finished_request::{FinishedRequest, RequestText};
use super::otlp::{Attributes, CLIENT, ERROR, ProtoMessage, SERVER, field};
use crate::record::{Attempt, AttemptOutcome, TerminationReason};
use ballast_balancer::HostAddress;

/// Span flag: the trace is recorded, as in W3C trace flags.
const SAMPLED: u32 = 0x01;
/// Span flag: it is known whether the parent belongs to another process.
const HAS_IS_REMOTE: u32 = 0x100;
/// Span flag: the parent belongs to another process.
const IS_REMOTE: u32 = 0x200;
/// Replaces a method that HTTP does not define; clients could invent any number of them.
const OTHER: &str = "_OTHER";

/// Writes the span of a request.
pub(super) fn write_request_span(span: &mut ProtoMessage, request: &FinishedRequest) {
    let trace = request.trace;
    span.bytes(field::TRACE_ID, &trace.id.to_be_bytes());
    span.bytes(field::SPAN_ID, &trace.span.to_be_bytes());
    if let Some(parent) = trace.parent {
        span.bytes(field::PARENT_SPAN_ID, &parent.to_be_bytes());
    }
    let remote = if trace.parent.is_some() { IS_REMOTE } else { 0 };
    span.fixed32(field::FLAGS, SAMPLED | HAS_IS_REMOTE | remote);
    span.bytes(field::NAME, span_name(request).as_bytes());
    span.number(field::KIND, SERVER);
    span.fixed64(field::START_TIME, nanoseconds(request.started));
    span.fixed64(
        field::END_TIME,
        nanoseconds(request.started + request.summary.duration),
    );
    describe_request(&mut span.attributes(field::ATTRIBUTES), request);
    if request.summary.is_failure() {
        set_error_status(span, request.summary.termination.code());
    }
}

fn describe_request(attributes: &mut Attributes<'_>, request: &FinishedRequest) {
    attributes.text(
        "url.scheme",
        if request.summary.tls { "https" } else { "http" },
    );
    attributes.integer("http.request.body.size", request.summary.received);
    attributes.integer("http.response.body.size", request.summary.sent);
    attributes.text("ballast.ending", request.summary.termination.code());
    attributes.milliseconds("ballast.queued_ms", request.summary.queued);
    describe_head(attributes, request);
    if let Some(client) = request.summary.client {
        attributes.address("client.address", client);
    }
    if let Some(status) = request.summary.status {
        attributes.integer("http.response.status_code", status);
    }
    match request.summary.status {
        Some(status) if status >= 500 => attributes.text("error.type", &status.to_string()),
        _ if request.summary.termination == TerminationReason::Complete => {}
        _ => attributes.text("error.type", request.summary.termination.code()),
    }
    describe_text(attributes, "ballast.pool", request, RequestText::Pool);
    describe_text(attributes, "ballast.request_id", request, RequestText::Id);
}

fn describe_head(attributes: &mut Attributes<'_>, request: &FinishedRequest) {
    describe_method(attributes, request);
    describe_text(attributes, "url.path", request, RequestText::Path);
    if let Some(version) = request.summary.version.and_then(protocol_version) {
        attributes.text("network.protocol.version", version);
    }
    if let Some(authority) = request.text(RequestText::Authority) {
        describe_server(attributes, &authority);
    }
    describe_text(
        attributes,
        "user_agent.original",
        request,
        RequestText::UserAgent,
    );
}

fn describe_text(
    attributes: &mut Attributes<'_>,
    key: &str,
    request: &FinishedRequest,
    text: RequestText,
) {
    if let Some(text) = request.text(text) {
        attributes.text(key, &text);
    }
}

/// Writes the span of an attempt; `false` if the attempt has none.
pub(super) fn write_attempt_span(
    span: &mut ProtoMessage,
    request: &FinishedRequest,
    number: usize,
) -> bool {
    let attempt = &request.attempts[number];
    let Some(id) = attempt.span else {
        return false;
    };
    let start = request.started
        + attempt
            .began
            .saturating_duration_since(request.summary.began);
    let rest =
        (request.summary.began + request.summary.duration).saturating_duration_since(attempt.began);
    let end = start + attempt.duration.unwrap_or(rest);
    span.bytes(field::TRACE_ID, &request.trace.id.to_be_bytes());
    span.bytes(field::SPAN_ID, &id.to_be_bytes());
    span.bytes(field::PARENT_SPAN_ID, &request.trace.span.to_be_bytes());
    span.fixed32(field::FLAGS, SAMPLED | HAS_IS_REMOTE);
    span.bytes(field::NAME, span_name(request).as_bytes());
    span.number(field::KIND, CLIENT);
    span.fixed64(field::START_TIME, nanoseconds(start));
    span.fixed64(field::END_TIME, nanoseconds(end));
    describe_attempt(
        &mut span.attributes(field::ATTRIBUTES),
        request,
        number,
        attempt,
    );
    if !matches!(attempt.outcome, AttemptOutcome::Ok | AttemptOutcome::Client)
        || attempt.status.is_some_and(|status| status >= 400)
    {
        set_error_status(span, attempt.outcome.code());
    }
    true
}

fn describe_attempt(
    attributes: &mut Attributes<'_>,
    request: &FinishedRequest,
    number: usize,
    attempt: &Attempt,
) {
    describe_method(attributes, request);
    describe_server(attributes, attempt.host.as_str());
    match &attempt.address {
        HostAddress::Inet(address) => {
            attributes.address("network.peer.address", address.ip());
            attributes.integer("network.peer.port", address.port());
        }
        HostAddress::Unix(path) => {
            attributes.text("network.transport", "unix");
            attributes.text("network.peer.address", &path.to_string_lossy());
        }
    }
    attributes.text("ballast.host", attempt.host.as_str());
    attributes.text("ballast.why", attempt.selection_reason.code());
    attributes.text("ballast.reason", attempt.outcome.code());
    if let Some(connect_time) = attempt.connect_time {
        attributes.milliseconds("ballast.connect_ms", connect_time);
        attributes.flag("ballast.reused", attempt.reused);
    }
    if let Some(first_byte) = attempt.first_byte {
        attributes.milliseconds("ballast.first_byte_ms", first_byte);
    }
    if let Some(status) = attempt.status {
        attributes.integer("http.response.status_code", status);
    }
    match attempt.status {
        Some(status) if status >= 400 => attributes.text("error.type", &status.to_string()),
        _ if attempt.outcome == AttemptOutcome::Ok => {}
        _ => attributes.text("error.type", attempt.outcome.code()),
    }
    if number > 0 {
        attributes.integer("http.request.resend_count", number as u64);
    }
}

/// The span name, of low cardinality: neither the path nor an invented method.
fn span_name(request: &FinishedRequest) -> &'static str {
    let method = request.text(RequestText::Method);
    method
        .and_then(|method| known_method(&method))
        .unwrap_or("HTTP")
}

fn describe_method(attributes: &mut Attributes<'_>, request: &FinishedRequest) {
    let Some(method) = request.text(RequestText::Method) else {
        return;
    };
    attributes.text(
        "http.request.method",
        known_method(&method).unwrap_or(OTHER),
    );
    if known_method(&method).is_none() {
        attributes.text("http.request.method_original", &method);
    }
}

/// The method, if HTTP defines it.
fn known_method(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    KNOWN.into_iter().find(|known| *known == method)
}

fn describe_server(attributes: &mut Attributes<'_>, authority: &str) {
    // The name of a Unix socket is its path.
    let path = authority.strip_prefix("unix:");
    let (name, port) = path.map_or_else(|| split_authority(authority), |path| (path, None));
    attributes.text("server.address", name);
    if let Some(port) = port {
        attributes.integer("server.port", port);
    }
}

/// Splits an authority into host and optional port.
fn split_authority(authority: &str) -> (&str, Option<u16>) {
    let split = authority.rsplit_once(':');
    let port = split.and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
    // The last group of a bare IPv6 address is not a port.
    let (name, port) = match port {
        Some((name, port)) if authority.parse::<IpAddr>().is_err() => (name, Some(port)),
        _ => (authority, None),
    };
    (name.trim_matches(['[', ']']), port)
}

fn protocol_version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

fn set_error_status(span: &mut ProtoMessage, code: &str) {
    let mut status = ProtoMessage::default();
    status.bytes(field::STATUS_MESSAGE, code.as_bytes());
    status.number(field::STATUS_CODE, ERROR);
    span.bytes(field::STATUS, status.as_bytes());
}

/// Nanoseconds since 1970; 0 for an earlier time.
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
    fn an_authority_has_a_name_and_an_optional_port() {
        assert_eq!(split_authority("a.example"), ("a.example", None));
        assert_eq!(split_authority("a:81"), ("a", Some(81)));
        assert_eq!(split_authority("[::1]:81"), ("::1", Some(81)));
        assert_eq!(split_authority("::1"), ("::1", None));
        assert_eq!(split_authority("a:x"), ("a:x", None));
    }

    #[test]
    fn only_methods_of_http_are_known() {
        assert_eq!(known_method("GET"), Some("GET"));
        assert_eq!(known_method("get"), None);
    }

    #[test]
    fn a_time_is_in_nanoseconds_since_1970() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(nanoseconds(time), 1_500_000_000);
        assert_eq!(
            nanoseconds(SystemTime::UNIX_EPOCH - Duration::from_secs(1)),
            0
        );
    }
}
