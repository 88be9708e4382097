//! The W3C trace context of a request: extracted from the client's fields, and injected into the request to each host.

use http::HeaderName;
use pingora::Result;

use super::header_editor::HeaderEditor;
use crate::config::Share;
use crate::message::FieldsView;
use crate::record::{Attempt, TRACEPARENT, TraceContext};
use crate::thread_random::thread_random;

/// Vendor-specific trace data, which passes unchanged.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceSampling {
    /// The share recorded among traces that begin here or come from untrusted clients.
    pub(crate) share: Share,
    /// Whether any client may decide if its own trace is recorded.
    pub(crate) trust_clients: bool,
}

/// Continues the client's trace if `fields` has a valid one, and otherwise starts a new trace. A client that is not
/// `trusted` does not decide whether its trace is recorded.
pub(crate) fn extract(
    fields: FieldsView<'_>,
    sampling: TraceSampling,
    trusted: bool,
) -> TraceContext {
    // A request has few fields: a scan over their names is faster than a lookup.
    let is_traceparent = |name: &[u8]| name.eq_ignore_ascii_case(TRACEPARENT.as_str().as_bytes());
    let mut traceparents = fields.iter().filter(|(name, _)| is_traceparent(name));
    let continued = match (traceparents.next(), traceparents.next()) {
        (Some((_, only)), None) => TraceContext::from_traceparent(only),
        _ => None,
    };
    let Some(mut trace) = continued else {
        return TraceContext::new_root(sampling.share);
    };
    if !(trusted || sampling.trust_clients) {
        // A random number decides, not the trace id, because the client chose the id.
        trace.sampled = sampling.share.takes(thread_random());
    }
    trace
}

/// Sets the traceparent of a request to a host; the parent is the span of the attempt. `received` are the client's
/// fields.
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
        // The client's tracestate belongs to a trace that is not continued.
        request.remove(&TRACESTATE);
    }
    request.set("traceparent", &trace.to_traceparent(span))
}
