//! The request's place in a distributed trace: taken in from the client, and passed on to each host.

use http::HeaderName;
use pingora::Result;

use super::header_editor::HeaderEditor;
use crate::balancer::thread_random;
use crate::config::Share;
use crate::message::FieldsView;
use crate::record::{Attempt, TRACEPARENT, TraceContext};

/// What others on the way have to say of the trace.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceSampling {
    /// How many of those that begin here or come from untrusted clients.
    pub(crate) share: Share,
    /// Whether any client decides about its own.
    pub(crate) trust_clients: bool,
}

/// The trace of a request with these fields: the client's if it brings a valid one, otherwise one that begins here. A
/// client that is not `trusted` does not decide whether it is recorded.
pub(crate) fn extract(
    fields: FieldsView<'_>,
    sampling: TraceSampling,
    trusted: bool,
) -> TraceContext {
    // With the few fields that requests have, to look at each name is faster than to look one up.
    let is_traceparent = |name: &[u8]| name.eq_ignore_ascii_case(TRACEPARENT.as_str().as_bytes());
    let mut said = fields.iter().filter(|(name, _)| is_traceparent(name));
    let followed = match (said.next(), said.next()) {
        (Some((_, only)), None) => TraceContext::from_traceparent(only),
        _ => None,
    };
    let Some(mut trace) = followed else {
        return TraceContext::new_root(sampling.share);
    };
    if !(trusted || sampling.trust_clients) {
        // Not by the id, which the client has chosen.
        trace.sampled = sampling.share.takes(thread_random());
    }
    trace
}

/// Tells the host its place: a child of the attempt. `received` are the fields that came.
pub(crate) fn inject(
    received: FieldsView<'_>,
    trace: Option<&TraceContext>,
    attempt: Option<&Attempt>,
    request: &mut impl HeaderEditor,
) -> Result<()> {
    let (Some(trace), Some(span)) = (trace, attempt.and_then(|attempt| attempt.span)) else {
        return Ok(());
    };
    let is_state = |name: &[u8]| name.eq_ignore_ascii_case(TRACESTATE.as_str().as_bytes());
    if trace.parent.is_none() && received.iter().any(|(name, _)| is_state(name)) {
        // It belongs to a trace that is not followed.
        request.remove(&TRACESTATE);
    }
    request.set("traceparent", &trace.to_traceparent(span))
}
