//! A line as an object of JSON. Its keys stand in the order below, and all of them always do.

use std::time::SystemTime;

use http::{HeaderName, HeaderValue, Version, header};
use jiff::Timestamp;
use pingora::http::RequestHeader;

use super::object::Object;
use crate::record::{Attempt, Record};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Appends the line of a request that ended `now`, without its end.
pub(super) fn write(line: &mut Vec<u8>, record: &Record<'_>, now: SystemTime) {
    let request = record.request;
    let field = |name: HeaderName| Some(request?.headers.get(name)?.as_bytes());
    let last = record.last();
    let mut object = Object::begin(line);
    // The moment at which the head had been read. A clock beyond the year 9999 has none to tell.
    let began = now.checked_sub(record.took).unwrap_or(now);
    let began = Timestamp::try_from(began).unwrap_or_default();
    object.words("time", format_args!("{began:.3}"));
    match record.client {
        Some(client) => object.words("client", format_args!("{client}")),
        None => object.text("client", None),
    }
    object.text(
        "method",
        request.map(|request| request.method.as_str().as_bytes()),
    );
    object.text("target", request.map(RequestHeader::raw_path));
    object.text("authority", request.and_then(authority));
    object.text(
        "version",
        request.map(|request| version(request.version).as_bytes()),
    );
    object.flag("tls", record.tls);
    object.number("status", record.status);
    object.number("received", Some(record.received));
    object.number("sent", Some(record.sent));
    object.millis("queue_ms", Some(record.queued));
    object.millis("connect_ms", last.and_then(|last| last.connected));
    object.millis(
        "first_byte_ms",
        last.and_then(|last| {
            let before = last.began.saturating_duration_since(record.began);
            Some(before + last.answered?)
        }),
    );
    object.millis("total_ms", Some(record.took));
    object.text("pool", record.pool.map(|(_, pool)| pool.name().as_bytes()));
    object.text("host", last.map(|last| last.host.as_str().as_bytes()));
    object.list("attempts", record.attempts, attempt);
    object.text("ending", Some(record.ending.code().as_bytes()));
    object.text("request_id", record.id.map(|id| id.as_bytes()));
    // What the host was told, or the client has said.
    let told = record.trace.map(|trace| {
        let span = last.and_then(|last| last.span);
        trace.traceparent(span.unwrap_or(trace.span))
    });
    let told = told.as_ref().map(HeaderValue::as_bytes);
    object.text("traceparent", told.or_else(|| field(TRACEPARENT)));
    object.text("user_agent", field(header::USER_AGENT));
    object.text("referer", field(header::REFERER));
    object.end();
}

/// One of `attempts`. Its times are from its begin.
fn attempt(object: &mut Object<'_>, attempt: &Attempt) {
    object.text("host", Some(attempt.host.as_str().as_bytes()));
    object.text("why", Some(attempt.why.code().as_bytes()));
    object.text("reason", Some(attempt.reason.code().as_bytes()));
    object.number("status", attempt.status);
    object.millis("connect_ms", attempt.connected);
    object.millis("first_byte_ms", attempt.answered);
    object.millis("total_ms", attempt.took);
    object.flag("reused", attempt.reused);
}

/// The client's Host, or the authority of HTTP/2.
fn authority(request: &RequestHeader) -> Option<&[u8]> {
    let host = || {
        request
            .headers
            .get(header::HOST)
            .map(|host| host.as_bytes())
    };
    let authority = request.uri.authority();
    let authority = authority.map(|authority| authority.as_str().as_bytes());
    authority.or_else(host)
}

/// A version of HTTP as it stands in a request line.
pub(super) fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}
