//! The request's place in a distributed trace: taken in from the client, and passed on to each host.

use http::HeaderName;
use pingora::Result;

use super::outgoing::Outgoing;
use crate::balancer::draw_of_thread;
use crate::config::Share;
use crate::message::FieldsView;
use crate::record::{Attempt, TRACEPARENT, Trace};

/// What others on the way have to say of the trace.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sampling {
    /// How many of those that begin here or come from untrusted clients.
    pub(crate) share: Share,
    /// Whether any client decides about its own.
    pub(crate) trust_clients: bool,
}

/// The trace of a request with these fields: the client's if it brings a valid one, otherwise one that begins here. A
/// client that is not `trusted` does not decide whether it is recorded.
pub(crate) fn of(fields: FieldsView<'_>, sampling: Sampling, trusted: bool) -> Trace {
    // With the few fields that requests have, to look at each name is faster than to look one up.
    let is_traceparent = |name: &[u8]| name.eq_ignore_ascii_case(TRACEPARENT.as_str().as_bytes());
    let mut said = fields.iter().filter(|(name, _)| is_traceparent(name));
    let followed = match (said.next(), said.next()) {
        (Some((_, only)), None) => Trace::follow(only),
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

/// Tells the host its place: a child of the attempt. `received` are the fields that came.
pub(crate) fn pass_on(
    received: FieldsView<'_>,
    trace: Option<&Trace>,
    attempt: Option<&Attempt>,
    request: &mut impl Outgoing,
) -> Result<()> {
    let (Some(trace), Some(span)) = (trace, attempt.and_then(|attempt| attempt.span)) else {
        return Ok(());
    };
    let is_state = |name: &[u8]| name.eq_ignore_ascii_case(TRACESTATE.as_str().as_bytes());
    if trace.parent.is_none() && received.iter().any(|(name, _)| is_state(name)) {
        // It belongs to a trace that is not followed.
        request.remove(&TRACESTATE);
    }
    request.set("traceparent", &trace.traceparent(span))
}
