//! Lines as JSON objects. All keys are always present, in the order below, but for those about a client's certificate, which
//! are there if the listener asks for one.

use http::Version;

use super::combined::UNIX_CLIENT;
use super::entry_batch::{AttemptEntry, EntryText, EntryView};
use super::json_object::{JsonObject, key};
use super::timestamp_formatter::TimestampFormatter;
use crate::address_text::AddressText;
use crate::grpc_status::GrpcStatus;

/// Appends the line of a request, without a line break.
pub(super) fn write(out: &mut Vec<u8>, line: &EntryView<'_>, timestamps: &mut TimestampFormatter) {
    let summary = &line.entry.summary;
    let last = line.last();
    let mut object = JsonObject::begin(out);
    let (seconds, millis) = timestamps.format(summary.began, "%Y-%m-%dT%H:%M:%S");
    let digit = |unit| b'0' + (millis / unit % 10) as u8;
    let rest = [b'.', digit(100), digit(10), digit(1), b'Z'];
    object.raw_str_parts(key!("time"), seconds.as_bytes(), &rest);
    let client = summary.client.map(AddressText::new);
    let client = client.as_ref().map_or(UNIX_CLIENT, AddressText::as_bytes);
    object.raw_str(key!("client"), Some(client));
    object.escaped_str(key!("method"), line.text(EntryText::Method));
    object.escaped_str(key!("target"), line.text(EntryText::Target));
    object.escaped_str(key!("authority"), line.text(EntryText::Authority));
    let version = summary.version.map(http_version);
    object.raw_str(key!("version"), version.map(str::as_bytes));
    object.boolean(key!("tls"), summary.tls);
    object.number(key!("status"), summary.status);
    object.number(key!("received"), Some(summary.received));
    object.number(key!("sent"), Some(summary.sent));
    object.millis(key!("queue_ms"), Some(summary.queued));
    object.millis(
        key!("connect_ms"),
        last.and_then(|(last, _)| last.connect_time),
    );
    object.millis(key!("first_byte_ms"), line.entry.first_byte);
    object.millis(key!("total_ms"), Some(summary.duration));
    object.escaped_str(key!("pool"), line.text(EntryText::Pool));
    object.escaped_str(key!("host"), last.map(|(_, host)| host));
    object.array(key!("attempts"), line.attempts(), attempt);
    object.raw_str(key!("ending"), Some(summary.termination.code().as_bytes()));
    object.escaped_str(key!("request_id"), line.text(EntryText::Id));
    // The value that was sent to the host, or without tracing the client's.
    let traceparent = summary.trace.map(|trace| {
        let span = last.and_then(|(last, _)| last.span);
        trace.to_traceparent(span.unwrap_or(trace.span))
    });
    match &traceparent {
        Some(traceparent) => object.raw_str(key!("traceparent"), Some(traceparent)),
        None => object.escaped_str(key!("traceparent"), line.text(EntryText::Traceparent)),
    }
    object.escaped_str(key!("user_agent"), line.text(EntryText::UserAgent));
    object.escaped_str(key!("referer"), line.text(EntryText::Referer));
    let grpc_status = summary.grpc_status.map(GrpcStatus::number);
    object.number(key!("grpc_status"), grpc_status);
    if let Some(verdict) = line.text(EntryText::ClientVerify) {
        object.raw_str(key!("client_verify"), Some(verdict));
        object.escaped_str(key!("client_subject"), line.text(EntryText::ClientSubject));
    }
    object.end();
}

/// Writes one of `attempts`. Its times are relative to its start.
fn attempt(object: &mut JsonObject<'_>, (attempt, host): (&AttemptEntry, &[u8])) {
    object.escaped_str(key!("host"), Some(host));
    object.raw_str(
        key!("why"),
        Some(attempt.selection_reason.code().as_bytes()),
    );
    object.raw_str(key!("reason"), Some(attempt.outcome.code().as_bytes()));
    object.number(key!("status"), attempt.status);
    object.millis(key!("connect_ms"), attempt.connect_time);
    object.millis(key!("first_byte_ms"), attempt.first_byte);
    object.millis(key!("total_ms"), attempt.duration);
    object.boolean(key!("reused"), attempt.reused);
}

/// An HTTP version as in a request line.
pub(super) fn http_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}
