//! The request's place in a distributed trace: taken in from the client, and passed on to each host.

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::Result;
use pingora::http::RequestHeader;

use crate::balancer::draw_of_thread;
use crate::config::Share;
use crate::record::{Attempt, TRACEPARENT, Trace};

/// What others on the way have to say of the trace.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sampling {
    /// How many of those that begin here or come from untrusted clients.
    pub(super) share: Share,
    /// Whether any client decides about its own.
    pub(super) trust_clients: bool,
}

/// The trace of a request with these fields: the client's if it brings a valid one, otherwise one that begins here. A
/// client that is not `trusted` does not decide whether it is recorded.
pub(super) fn of(fields: &HeaderMap, sampling: Sampling, trusted: bool) -> Trace {
    // With the few fields that requests have, to look at each name is faster than to look one up.
    let mut said = fields.iter().filter(|(name, _)| **name == TRACEPARENT);
    let followed = match (said.next(), said.next()) {
        (Some((_, only)), None) => Trace::follow(only.as_bytes()),
        _ => None,
    };
    let Some(mut trace) = followed else {
        return Trace::begin(sampling.share);
    };
    if !(trusted || sampling.trust_clients) {
        // Not by the id, which the client has chosen.
        trace.sampled = sampling.share.takes(draw_of_thread());
    }
    trace
}

/// Tells the host its place: a child of the attempt.
pub(super) fn pass_on(
    request: &mut RequestHeader,
    trace: Option<&Trace>,
    attempt: Option<&Attempt>,
) -> Result<()> {
    let (Some(trace), Some(span)) = (trace, attempt.and_then(|attempt| attempt.span)) else {
        return Ok(());
    };
    if trace.parent.is_none() && request.headers.keys().any(|name| *name == TRACESTATE) {
        // It belongs to a trace that is not followed.
        request.remove_header(&TRACESTATE);
    }
    let told = HeaderValue::from_bytes(&trace.traceparent(span))
        .expect("hexadecimal digits and dashes are visible characters");
    request.insert_header("traceparent", told)
}
