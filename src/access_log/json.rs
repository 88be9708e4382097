//! A line as an object of JSON. Its keys stand in the order below, and all of them always do.

use http::Version;

use super::clock::Clock;
use super::entry::{Line, Text, Try};
use super::object::{Object, key};
use crate::address_text::AddressText;

/// Appends the line of a request, without its end.
pub(super) fn write(out: &mut Vec<u8>, line: &Line<'_>, clock: &mut Clock) {
    let summary = &line.entry.summary;
    let last = line.last();
    let mut object = Object::begin(out);
    let (seconds, millis) = clock.text(summary.began, "%Y-%m-%dT%H:%M:%S");
    let digit = |unit| b'0' + (millis / unit % 10) as u8;
    let rest = [b'.', digit(100), digit(10), digit(1), b'Z'];
    object.words(key!("time"), seconds.as_bytes(), &rest);
    let client = summary.client.map(AddressText::new);
    object.word(key!("client"), client.as_ref().map(AddressText::as_bytes));
    object.text(key!("method"), line.text(Text::Method));
    object.text(key!("target"), line.text(Text::Target));
    object.text(key!("authority"), line.text(Text::Authority));
    let version = summary.version.map(version);
    object.word(key!("version"), version.map(str::as_bytes));
    object.flag(key!("tls"), summary.tls);
    object.number(key!("status"), summary.status);
    object.number(key!("received"), Some(summary.received));
    object.number(key!("sent"), Some(summary.sent));
    object.millis(key!("queue_ms"), Some(summary.queued));
    object.millis(
        key!("connect_ms"),
        last.and_then(|(last, _)| last.connected),
    );
    object.millis(key!("first_byte_ms"), line.entry.first_byte);
    object.millis(key!("total_ms"), Some(summary.took));
    object.text(key!("pool"), line.text(Text::Pool));
    object.text(key!("host"), last.map(|(_, host)| host));
    object.list(key!("attempts"), line.attempts(), attempt);
    object.word(key!("ending"), Some(summary.ending.code().as_bytes()));
    object.text(key!("request_id"), line.text(Text::Id));
    // What the host was told, or the client has said.
    let told = summary.trace.map(|trace| {
        let span = last.and_then(|(last, _)| last.span);
        trace.traceparent(span.unwrap_or(trace.span))
    });
    match &told {
        Some(told) => object.word(key!("traceparent"), Some(told)),
        None => object.text(key!("traceparent"), line.text(Text::Traceparent)),
    }
    object.text(key!("user_agent"), line.text(Text::UserAgent));
    object.text(key!("referer"), line.text(Text::Referer));
    object.end();
}

/// One of `attempts`. Its times are from its begin.
fn attempt(object: &mut Object<'_>, (attempt, host): (&Try, &[u8])) {
    object.text(key!("host"), Some(host));
    object.word(key!("why"), Some(attempt.why.code().as_bytes()));
    object.word(key!("reason"), Some(attempt.reason.code().as_bytes()));
    object.number(key!("status"), attempt.status);
    object.millis(key!("connect_ms"), attempt.connected);
    object.millis(key!("first_byte_ms"), attempt.answered);
    object.millis(key!("total_ms"), attempt.took);
    object.flag(key!("reused"), attempt.reused);
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
