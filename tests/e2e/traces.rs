//! Distributed traces: the `traceparent` that hosts receive, and the spans that a collector receives.

use std::time::Instant;

use nix::sys::signal::Signal;

use crate::support::{
    Backend, Client, Collector, Connections, DeadHost, Load, ReceivedSpan, Reply, SOON, Setup, get,
    hex, resident, traced_by, wait_until,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;

/// The header field of a client that sends a trace with its request.
fn traceparent_field(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\n")
}

/// The trace, the span and the flags that a host received.
fn traceparent_of(host: &Backend) -> (String, String, String) {
    let head = host.last().head;
    let fields = head.all("traceparent");
    assert_eq!(fields.len(), 1, "{fields:?}");
    let parts = Vec::from_iter(fields[0].split('-'));
    assert_eq!((parts.len(), parts[0]), (4, "00"), "{fields:?}");
    (
        parts[1].to_owned(),
        parts[2].to_owned(),
        parts[3].to_owned(),
    )
}

fn is_failure(received: &ReceivedSpan) -> bool {
    received
        .span
        .status
        .as_ref()
        .is_some_and(|status| status.code == ERROR)
}

#[test]
fn a_request_is_a_span_of_its_clients_trace_with_its_attempt_as_child() {
    let (host, collector) = (Backend::start_new("a"), Collector::start_new());
    let secrets = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(&secrets, "x-key: hush\n").expect("it can be written");
    let more = format!(
        "service: edge, headers: {{ authorization: Bearer x }}, headers_file: {}",
        secrets.path().display()
    );
    let ballast = Setup::of(&[&host]).top(&collector.section(&more)).start();
    let fields = traceparent_field("01") + "tracestate: a=1,b=2\r\nUser-Agent: test/1\r\n";
    let response = Client::connect(ballast.address()).get_with("/a/b?secret=1", &fields);
    assert_eq!(response.status, 200);
    let (trace, parent, flags) = traceparent_of(&host);
    assert_eq!((&*trace, &*flags), (TRACE, "01"));
    assert_eq!(host.last().head.get("tracestate"), Some("a=1,b=2"));

    let spans = collector.spans_of(TRACE, 2);
    let [request, attempt] = &spans[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(hex(&request.span.parent_span_id), PARENT);
    assert_eq!(attempt.span.parent_span_id, request.span.span_id);
    assert_eq!(hex(&attempt.span.span_id), parent);
    assert_eq!((request.span.kind, attempt.span.kind), (SERVER, CLIENT));
    assert!(!is_failure(request) && !is_failure(attempt));
    let (outer, inner) = (&request.span, &attempt.span);
    assert!(outer.start_time_unix_nano <= inner.start_time_unix_nano);
    assert!(inner.start_time_unix_nano < inner.end_time_unix_nano);
    assert!(inner.end_time_unix_nano <= outer.end_time_unix_nano);
    assert_eq!(request.head.word(1), "/v1/traces");
    assert_eq!(request.head.get("authorization"), Some("Bearer x"));
    assert_eq!(request.head.get("x-key"), Some("hush"));
    assert_eq!(request.resource["service.name"], "edge");
    let address = host.address();
    let port = address.port().to_string();
    let expected = [
        (request, "http.request.method", "GET"),
        (request, "url.path", "/a/b"),
        (request, "url.scheme", "http"),
        (request, "http.response.status_code", "200"),
        (request, "server.address", "test"),
        (request, "client.address", "127.0.0.1"),
        (request, "user_agent.original", "test/1"),
        (request, "network.protocol.version", "1.1"),
        (request, "http.response.body.size", "2"),
        (request, "ballast.pool", "web"),
        (request, "ballast.ending", "complete"),
        (request, "error.type", ""),
        (attempt, "server.address", "127.0.0.1"),
        (attempt, "server.port", &port),
        (attempt, "ballast.host", &address.to_string()),
        (attempt, "ballast.why", "balanced"),
        (attempt, "ballast.reason", "ok"),
        (attempt, "ballast.reused", "false"),
        (attempt, "http.response.status_code", "200"),
        (attempt, "http.request.resend_count", ""),
    ];
    for (span, key, value) in expected {
        assert_eq!(span.get(key), value, "{key} of {span:#?}");
    }
    let id = host.last().head.get("x-request-id").map(str::to_owned);
    assert_eq!(Some(request.get("ballast.request_id")), id);
}

#[test]
fn an_invalid_or_missing_traceparent_is_replaced() {
    let (host, collector) = (Backend::start_new("a"), Collector::start_new());
    let ballast = Setup::of(&[&host]).top(&collector.section("")).start();
    let valid = traceparent_field("01");
    for fields in [
        String::new(),
        valid.to_uppercase(),
        valid.replace("00-4b", "ff-4b"),
        valid.replace(PARENT, "0000000000000000"),
        format!("{valid}{valid}"),
        "traceparent: \r\n".to_owned(),
    ] {
        let fields = fields + "tracestate: a=1\r\n";
        Client::connect(ballast.address()).get_with("/", &fields);
        let (trace, parent, flags) = traceparent_of(&host);
        assert!(trace != TRACE && parent != PARENT, "{fields}");
        assert_eq!((trace.len(), parent.len(), &*flags), (32, 16, "01"));
        assert_eq!(host.last().head.get("tracestate"), None, "{fields}");
        let spans = collector.spans_of(&trace, 2);
        assert!(spans[0].span.parent_span_id.is_empty(), "{spans:#?}");
    }
}

#[test]
fn without_tracing_trace_fields_pass_unchanged() {
    let host = Backend::start_new("a");
    let ballast = Setup::of(&[&host]).start();
    let fields = traceparent_field("03") + "tracestate: a=1\r\n";
    Client::connect(ballast.address()).get_with("/", &fields);
    let head = host.last().head;
    let traceparent = format!("00-{TRACE}-{PARENT}-03");
    assert_eq!(head.get("traceparent"), Some(&*traceparent));
    assert_eq!(head.get("tracestate"), Some("a=1"));
    get(ballast.address(), "/");
    assert_eq!(host.last().head.get("traceparent"), None);
}

#[test]
fn traces_are_continued_without_a_collector() {
    let host = Backend::start_new("a");
    let ballast = Setup::of(&[&host]).top("tracing: { sample: 100% }").start();
    Client::connect(ballast.address()).get_with("/", &traceparent_field("01"));
    let (trace, parent, flags) = traceparent_of(&host);
    assert_eq!((&*trace, &*flags), (TRACE, "01"));
    assert_ne!(parent, PARENT);
}

#[test]
fn each_attempt_is_a_span_with_its_reason() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let (dead, collector) = (DeadHost::new(), Collector::start_new());
    bad.set(Reply::status(503));
    let ballast = Setup::of(&[])
        .host(dead.address())
        .host(bad.address())
        .host(good.address())
        .pool("ejection: none")
        .top(&collector.section(""))
        .start();
    let response = Client::connect(ballast.address()).get_with("/", &traceparent_field("01"));
    assert_eq!(response.backend(), "good");
    let spans = collector.spans_of(TRACE, 4);
    let attempts = &spans[1..];
    let of = |key| Vec::from_iter(attempts.iter().map(|span| span.get(key)));
    assert_eq!(of("ballast.reason"), ["connect", "status", "ok"]);
    assert_eq!(of("http.response.status_code"), ["", "503", "200"]);
    assert_eq!(of("http.request.resend_count"), ["", "1", "2"]);
    assert_eq!(of("error.type"), ["connect", "503", ""]);
    let failures = attempts.iter().map(is_failure);
    assert_eq!(Vec::from_iter(failures), [true, true, false]);
    assert!(!is_failure(&spans[0]));
    for attempt in attempts {
        assert_eq!(attempt.span.parent_span_id, spans[0].span.span_id);
    }
    // Each host received the span of its own attempt.
    let parent_of = |host: &Backend| traceparent_of(host).1;
    assert_eq!(parent_of(&bad), hex(&attempts[1].span.span_id));
    assert_eq!(parent_of(&good), hex(&attempts[2].span.span_id));
}

#[test]
fn a_request_without_a_host_is_a_span() {
    let (host, collector) = (Backend::start_new("a"), Collector::start_new());
    let ballast = Setup::of(&[&host])
        .top("routes: [{ path: /a, pool: web }]")
        .top(&collector.section(""))
        .start();
    let response = Client::connect(ballast.address()).get_with("/b", &traceparent_field("01"));
    assert_eq!(response.status, 404);
    let spans = collector.spans_of(TRACE, 1);
    assert_eq!(spans[0].get("ballast.ending"), "no_route");
    assert_eq!(spans[0].get("error.type"), "no_route");
    assert_eq!(spans[0].get("http.response.status_code"), "404");
    assert_eq!(spans[0].get("ballast.pool"), "");
}

#[test]
fn trusted_clients_decide_on_sampling_and_others_are_sampled_at_random() {
    let (host, collector) = (Backend::start_new("a"), Collector::start_new());
    let section = collector.section("");
    let none_section = section.replace("100%", "0%");
    let none = Setup::of(&[&host]).top(&none_section).start();
    let trusting = |section: &str| {
        let setup = Setup::of(&[&host]).top(section);
        setup.top("trusted_proxies: [127.0.0.1]").start()
    };
    let believing = |section: &str| {
        let section = section.replacen("{ ", "{ trust_clients: true, ", 1);
        Setup::of(&[&host]).top(&section).start()
    };
    let all = Setup::of(&[&host]).top(&section).start();
    let half = Setup::of(&[&host])
        .top(&section.replace("100%", "50%"))
        .start();
    let mut recorded = 0;
    // They live to the end: a process that is killed may still have spans to export.
    let cases = [
        (&none, String::new(), "00"),
        (&none, traceparent_field("01"), "00"),
        (&trusting(&none_section), traceparent_field("01"), "01"),
        (&trusting(&section), traceparent_field("00"), "00"),
        (&believing(&none_section), traceparent_field("01"), "01"),
        (&believing(&section), traceparent_field("00"), "00"),
        (&all, String::new(), "01"),
        (&all, traceparent_field("00"), "01"),
    ];
    for (ballast, fields, flags) in &cases {
        Client::connect(ballast.address()).get_with("/", fields);
        assert_eq!(traceparent_of(&host).2, *flags, "{fields}");
        recorded += usize::from(*flags == "01");
    }
    let mut client = Client::connect(half.address());
    let mut drawn = 0;
    for _ in 0..200 {
        client.get("/");
        drawn += usize::from(traceparent_of(&host).2 == "01");
    }
    // The chance that a count is outside these bounds is less than one in a billion.
    assert!((55..=145).contains(&drawn), "{drawn}");
    let expected = 2 * (recorded + drawn);
    wait_until(SOON, "the recorded ones", || {
        collector.spans().len() >= expected
    });
    // All spans go the same way, so an unexpected span would have arrived by now.
    let mut last = Client::connect(all.address());
    last.get_with("/", "");
    let (trace, ..) = traceparent_of(&host);
    collector.spans_of(&trace, 2);
    assert_eq!(collector.spans().len(), expected + 2);
}

#[test]
fn a_hanging_collector_loses_only_spans() {
    let (host, collector) = (Backend::start_new("a"), Collector::start_new());
    collector.backend.set(Reply::Hang);
    let mut ballast = Setup::of(&[&host])
        .top(&collector.section("queue: 16, timeout: 300ms"))
        .start();
    let load = Load::start(ballast.address(), 4, Connections::Kept);
    wait_until(SOON, "the process tries to export", || {
        collector.backend.requests() >= 2
    });
    let before = (host.requests(), resident(ballast.pid()));
    // As many requests as a slow machine serves in time, and far more than the queue holds.
    let start = Instant::now();
    wait_until(4 * SOON, "many requests", || {
        let served = host.requests() - before.0;
        served > 5_000 || (served > 500 && start.elapsed() > SOON / 2)
    });
    load.stop().assert_all_ok("with a collector that hangs");
    let grown = resident(ballast.pid()).saturating_sub(before.1);
    assert!(grown < 16 << 20, "{grown} bytes");
    ballast.wait_for_log(&[
        "WARN",
        "cannot export traces to",
        "no response within 300ms",
    ]);
    assert_eq!(ballast.log_with(&["cannot export traces to"]).len(), 1);

    collector.accept();
    ballast.wait_for_log(&["INFO", "again; requests lost: "]);
    let mut client = Client::connect(ballast.address());
    wait_until(SOON, "a span of a new request", || {
        client.get_with("/", &traceparent_field("01"));
        let spans = collector.spans();
        spans
            .iter()
            .any(|received| hex(&received.span.trace_id) == TRACE)
    });

    collector.backend.set(Reply::Hang);
    client.get("/");
    ballast.signal(Signal::SIGTERM);
    assert_eq!(ballast.wait_exit(SOON).code(), Some(0));
}

#[test]
fn an_unreachable_collector_gets_the_spans_later() {
    let (host, collector) = (Backend::start_new("a"), Collector::start_new());
    collector.backend.stop();
    let ballast = Setup::of(&[&host]).top(&collector.section("")).start();
    Client::connect(ballast.address()).get_with("/", &traceparent_field("01"));
    ballast.wait_for_log(&["cannot export traces to"]);
    collector.backend.start();
    collector.spans_of(TRACE, 2);
    ballast.wait_for_log(&["again; requests lost: 0"]);
}

#[test]
fn permanently_refused_spans_are_not_sent_again() {
    let (host, collector) = (Backend::start_new("a"), Collector::start_new());
    collector.backend.set(Reply::status(400));
    let ballast = Setup::of(&[&host]).top(&collector.section("")).start();
    get(ballast.address(), "/");
    ballast.wait_for_log(&["cannot export traces to", "status 400"]);
    collector.accept();
    Client::connect(ballast.address()).get_with("/", &traceparent_field("01"));
    collector.spans_of(TRACE, 2);
    ballast.wait_for_log(&["again; requests lost: 1"]);
    assert_eq!(collector.spans().len(), 2);
}

#[test]
fn pending_spans_are_sent_at_exit() {
    let (host, collector) = (Backend::start_new("a"), Collector::start_new());
    let section = collector.section("").replace("10ms", "1h");
    let mut ballast = Setup::of(&[&host]).top(&section).start();
    Client::connect(ballast.address()).get_with("/", &traceparent_field("01"));
    assert!(collector.spans().is_empty());
    ballast.signal(Signal::SIGTERM);
    assert_eq!(ballast.wait_exit(SOON).code(), Some(0));
    collector.spans_of(TRACE, 2);
}

#[test]
fn a_reload_changes_the_collector() {
    let host = Backend::start_new("a");
    let (one, other) = (Collector::start_new(), Collector::start_new());
    let setup = Setup::of(&[&host]);
    let ballast = setup.clone().top(&one.section("")).start();
    let mut client = Client::connect(ballast.address());
    client.get_with("/", &traceparent_field("01"));
    one.spans_of(TRACE, 2);
    let outcome = ballast.reload_by_sighup(&setup.clone().top(&other.section("")).yaml());
    assert!(
        outcome.contains("tracing.otlp.endpoint changed"),
        "{outcome}"
    );
    client.get_with("/", &traceparent_field("01"));
    other.spans_of(TRACE, 2);
    ballast.reload_by_sighup(&setup.yaml());
    client.get_with("/", &traceparent_field("03"));
    let field = host.last().head.get("traceparent").map(str::to_owned);
    assert_eq!(field, Some(format!("00-{TRACE}-{PARENT}-03")));
    assert_eq!((one.spans().len(), other.spans().len()), (2, 2));
    // The outcome of the reload does not show the headers that are sent to a collector.
    let dead = DeadHost::new();
    let line = ballast.reload_by_sighup(
        &setup
            .top(&traced_by(
                dead.address(),
                "headers: { authorization: hush }",
            ))
            .yaml(),
    );
    assert!(!line.contains("hush"), "{line}");
}
