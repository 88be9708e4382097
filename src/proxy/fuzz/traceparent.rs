//! The trace context in `traceparent`, and what the host gets of it.

use std::net::Ipv4Addr;
use std::time::Instant;

use super::{lines, request, values};
use crate::config::Share;
use crate::fuzz;
use crate::pool::SelectionReason;
use crate::proxy::forwarding::trace_context::{self, TraceSampling};
use crate::record::Attempt;
use ballast_balancer::Host;

/// Checks the trace context. The input is a list of fields, of which traceparent is read.
fn traceparent(input: &[u8]) {
    let lines = std::iter::once(&b"/"[..]).chain(lines(input));
    let Some(mut request) = request(lines) else {
        return;
    };
    let (traceparents, state) = (
        values(&request, "traceparent"),
        values(&request, "tracestate"),
    );
    let never = TraceSampling {
        share: Share::of_percent(0.0),
        trust_clients: false,
    };
    let untrusted = trace_context::extract((&request.headers).into(), never, false);
    assert!(!untrusted.sampled);
    let trace = trace_context::extract((&request.headers).into(), never, true);
    assert_eq!(untrusted.parent, trace.parent);
    assert!(trace.id != 0 && trace.span != 0);
    let Some(parent) = trace.parent else {
        return assert!(!trace.sampled);
    };
    // The trace is continued exactly as received, as far as its version is known.
    let [traceparent] = &traceparents[..] else {
        panic!("one of several traces was continued");
    };
    assert_eq!(trace.to_traceparent(parent)[2..53], traceparent[2..53]);
    let mut attempt = attempt();
    attempt.span = Some(trace.span);
    let passed = {
        let received = request.clone();
        let fields = (&received.headers).into();
        trace_context::inject(fields, Some(&trace), Some(&attempt), &mut request)
    };
    passed.expect("a valid field");
    let next = trace_context::extract((&request.headers).into(), never, true);
    assert_eq!(
        (next.id, next.parent, next.sampled),
        (trace.id, Some(trace.span), trace.sampled)
    );
    assert_eq!(values(&request, "tracestate"), state);
}

/// An attempt on an arbitrary host.
fn attempt() -> Attempt {
    let host = Host::new((Ipv4Addr::LOCALHOST, 1).into());
    Attempt::begin(&host, 0, SelectionReason::Balanced, Instant::now())
}

#[test]
fn fuzz_traceparent() {
    const WORDS: &[&str] = &[
        "traceparent: ",
        "tracestate: a=1\n",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00000000000000000000000000000000",
        "0000000000000000",
        "ff",
        "cc",
        "-",
        "-more",
        "\n",
    ];
    fuzz::run("traceparent", WORDS, traceparent);
}
