//! Calls of gRPC: which requests are, how long they may take, how they end, and what the proxy itself answers to them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use pingora::{Error, ErrorType};

use super::context::RequestContext;
use super::local_message::LocalMessage;
use crate::grpc_status::GrpcStatus;
use crate::message::RequestView;

/// The error type for a call that did not end before its deadline.
pub(crate) const DEADLINE: ErrorType = ErrorType::new("CallDeadline");

const MEDIA_TYPE: &str = "application/grpc";
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What grpc-message has in percent-encoding, besides bytes that are not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// Longer timeouts mean the same as none, and their sum with a time cannot overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3_600);

/// What a call of gRPC has in addition to a request.
#[derive(Debug)]
pub(crate) struct GrpcCall {
    /// When the client gives up, by its grpc-timeout.
    deadline: Option<Instant>,
    /// How the call has ended for the client, as far as known.
    status: Option<GrpcStatus>,
}

impl GrpcCall {
    /// The call that a request is, if it is one.
    pub(crate) fn of(request: RequestView<'_>, began: Instant) -> Option<Box<Self>> {
        // There is no gRPC over earlier versions.
        if request.version != Version::HTTP_2 || !is_media_type(request.get(&CONTENT_TYPE)?) {
            return None;
        }
        let timeout = request.get(&TIMEOUT).and_then(parse_timeout);
        Some(Box::new(GrpcCall {
            deadline: timeout.map(|timeout| began + timeout),
            status: None,
        }))
    }

    /// How the call has ended for the client. `None`: without a status.
    pub(crate) fn status(&self) -> Option<GrpcStatus> {
        self.status
    }

    pub(super) fn forget_status(&mut self) {
        self.status = None;
    }

    /// Records the status of the host, and returns the status of HTTP that it counts as.
    fn note_status(&mut self, status: GrpcStatus) -> u16 {
        self.status = Some(status);
        match status {
            // The host has found that the client's own deadline is over.
            GrpcStatus::DEADLINE_EXCEEDED if self.deadline.is_some() => 408,
            status => status.http_status(),
        }
    }
}

impl RequestContext {
    /// How long the call may still take. `None`: it has no deadline.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let deadline = self.grpc.as_ref()?.deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// The status by which the policies judge a response: that of HTTP, or the equivalent of gRPC's in its head.
    pub(crate) fn judged_status(&mut self, status: StatusCode, fields: &HeaderMap) -> StatusCode {
        let call = self.grpc.as_mut().filter(|_| status == StatusCode::OK);
        let judged = call.and_then(|call| Some(call.note_status(GrpcStatus::of(fields)?)));
        judged.map_or(status, |judged| {
            StatusCode::from_u16(judged).unwrap_or(status)
        })
    }

    /// The host has ended its response with these trailers, which have the status of a call of gRPC.
    pub(crate) fn trailers_received(&mut self, trailers: &HeaderMap) {
        let Some(call) = &mut self.grpc else { return };
        let Some(status) = GrpcStatus::of(trailers) else {
            return;
        };
        let outcome = call.note_status(status);
        let outcome = self.pool().outcome_of(outcome);
        if let Some(response) = &mut self.host_response {
            response.outcome = outcome;
        }
    }

    /// Makes a response of the proxy's own what a client of gRPC understands: a status and a message, without a body. What
    /// is no failure stays, for the operator has configured it.
    pub(super) fn answer_call(&mut self, message: &mut LocalMessage) {
        let Some(call) = &mut self.grpc else { return };
        if message.status < 300 {
            return;
        }
        let status = GrpcStatus::of_http(message.status);
        call.status = Some(status);
        let reason = message.reason();
        let text = percent_encode(reason.trim_ascii(), ENCODED).to_string();
        message.fields.clear();
        message.body = Bytes::new();
        message.status = 200;
        let fields = &mut message.fields;
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        fields.insert(GrpcStatus::FIELD, u16::from(status.number()).into());
        if let Ok(text) = HeaderValue::from_str(&text) {
            fields.insert(MESSAGE, text);
        }
    }
}

/// The error of a call whose deadline has passed. The client has set it, so no host is blamed.
pub(crate) fn deadline_error() -> Box<Error> {
    Error::explain(DEADLINE, "the grpc-timeout of the call has passed").into_down()
}

/// Whether a Content-Type is that of gRPC; that of gRPC-Web is not.
fn is_media_type(value: &[u8]) -> bool {
    let (name, rest) = value.split_at(value.len().min(MEDIA_TYPE.len()));
    name.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes())
        && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// A timeout: up to eight digits and a unit. `None`: it is malformed, and so no timeout.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse::<u64>().ok()?;
    let timeout = match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout.min(MAX_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_tells_a_call() {
        for call in [
            &b"application/grpc"[..],
            b"application/grpc+proto",
            b"application/grpc;charset=utf-8",
            b"Application/GRPC+json",
        ] {
            assert!(is_media_type(call), "{call:?}");
        }
        for other in [
            &b"application/grpc-web"[..],
            b"application/grp",
            b"application/grpcs",
            b"",
        ] {
            assert!(!is_media_type(other), "{other:?}");
        }
    }

    #[test]
    fn timeouts_have_a_unit() {
        for (text, expected) in [
            (&b"1S"[..], Some(Duration::from_secs(1))),
            (b"2H", Some(Duration::from_secs(7_200))),
            (b"3M", Some(Duration::from_secs(180))),
            (b"100m", Some(Duration::from_millis(100))),
            (b"5u", Some(Duration::from_micros(5))),
            (b"99999999n", Some(Duration::from_nanos(99_999_999))),
            (b"99999999H", Some(MAX_TIMEOUT)),
            (b"0S", Some(Duration::ZERO)),
            (b"100000000S", None),
            (b"-1S", None),
            (b"1", None),
            (b"S", None),
            (b"1s", None),
            (b"", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text:?}");
        }
    }
}
