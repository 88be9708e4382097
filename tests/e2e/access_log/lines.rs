//! What a log line contains about its request.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{logging, wait_for_line, wait_for_lines};
use crate::support::{
    Authority, Backend, Client, DeadHost, LISTEN, Reply, SOON, Setup, get, wait_until,
};

/// The keys of a line, in their order.
const KEYS: [&str; 23] = [
    "time",
    "client",
    "method",
    "target",
    "authority",
    "version",
    "tls",
    "status",
    "received",
    "sent",
    "queue_ms",
    "connect_ms",
    "first_byte_ms",
    "total_ms",
    "pool",
    "host",
    "attempts",
    "ending",
    "request_id",
    "traceparent",
    "user_agent",
    "referer",
    "grpc_status",
];

/// The parts of a line that do not depend on times and ports.
fn as_text(line: &Value) -> Value {
    let attempts = line["attempts"].as_array().expect("a list").iter();
    let reasons = attempts.map(|attempt| attempt["reason"].clone());
    json!([line["status"], line["ending"], Vec::from_iter(reasons)])
}

#[test]
fn a_line_has_every_field_with_its_correct_value() {
    let backend = Backend::start_new("a");
    let ballast = logging(Setup::of(&[&backend]), "format: json").start();
    backend.set(Reply::ok().after(Duration::from_millis(60)).body("answer"));
    let mut client = Client::connect(ballast.address());
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = format!(
        "POST /a/b?c=d HTTP/1.1\r\nHost: Example.test:80\r\nUser-Agent: me/1\r\nReferer: http://x/\r\n\
         X-Request-Id: id-7\r\nTraceparent: {traceparent}\r\nContent-Length: 4\r\n\r\nbody"
    );
    for _ in 0..2 {
        assert_eq!(client.request(&request).expect("a response").status, 200);
    }
    let host = backend.address().to_string();
    for (number, line) in wait_for_lines(&ballast, 2).iter().enumerate() {
        let text = std::fs::read_to_string(ballast.path(super::FILE)).expect("the entry exists");
        let places = KEYS.map(|key| text.find(&format!("\"{key}\":")).expect("the entry exists"));
        assert!(places.is_sorted(), "{text}");
        assert_eq!(line.as_object().expect("an object").len(), KEYS.len());
        for (key, value) in [
            ("client", json!("127.0.0.1")),
            ("method", json!("POST")),
            ("target", json!("/a/b?c=d")),
            ("authority", json!("Example.test:80")),
            ("version", json!("HTTP/1.1")),
            ("tls", json!(false)),
            ("status", json!(200)),
            ("received", json!(4)),
            ("sent", json!(6)),
            ("pool", json!("web")),
            ("host", json!(host)),
            ("ending", json!("complete")),
            ("request_id", json!("id-7")),
            ("traceparent", json!(traceparent)),
            ("user_agent", json!("me/1")),
            ("referer", json!("http://x/")),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
        let attempt = &line["attempts"][0];
        for (key, value) in [
            ("host", json!(host)),
            ("why", json!("balanced")),
            ("reason", json!("ok")),
            ("status", json!(200)),
            ("reused", json!(number == 1)),
        ] {
            assert_eq!(attempt[key], value, "{key}");
        }
        let times = ["queue_ms", "connect_ms", "first_byte_ms", "total_ms"];
        let times = times.map(|key| line[key].as_f64().expect("a number"));
        assert!(times.is_sorted() && times[0] == 0.0, "{times:?}");
        assert!((60.0..10_000.0).contains(&times[2]), "{times:?}");
        let times = ["connect_ms", "first_byte_ms", "total_ms"];
        let times = times.map(|key| attempt[key].as_f64().expect("a number"));
        assert!(times.is_sorted() && times[1] >= 60.0, "{times:?}");
        let time: jiff::Timestamp = line["time"]
            .as_str()
            .expect("text")
            .parse()
            .expect("a time");
        let age = jiff::Timestamp::now().duration_since(time).as_secs_f64();
        assert!((0.06..60.0).contains(&age), "{age}");
    }
}

#[test]
fn a_line_has_the_termination_reason() {
    let backend = Backend::start_new("a");
    let dead = DeadHost::new();
    let ballast = logging(Setup::of(&[&backend]), "format: json")
        .host(dead.address())
        .top("timeouts: { read: 1s }")
        .top(
            "routes: [{ path: /denied, pool: web, deny: [127.0.0.0/8] }, \
             { path: /rate, pool: web, rate: { requests: 1, burst: 1 } }, { path: /w, pool: web }]",
        )
        .pool("ejection: none")
        .start();
    let address = ballast.address();
    for (target, status) in [("/w/1", 200), ("/w/2", 200), ("/no", 404), ("/denied", 403)] {
        assert_eq!(get(address, target).status, status);
    }
    assert_eq!(get(address, "/rate?1").status, 200);
    assert_eq!(get(address, "/rate?2").status, 429);
    backend.set(Reply::Hang);
    assert_eq!(get(address, "/w/late").status, 504);
    backend.set(Reply::ResetMidBody);
    let cut = Client::connect(address).request("GET /w/reset HTTP/1.1\r\nHost: test\r\n\r\n");
    cut.expect_err("an incomplete response");
    // More than all buffers on the way can hold.
    backend.set(Reply::ok().chunked().body(vec![b'x'; 32 << 20]));
    let mut client = Client::connect(address);
    let sent = client.send("GET /w/gone HTTP/1.1\r\nHost: test\r\n\r\n");
    sent.expect("the connection is open");
    client.read_head().expect("the response has begun");
    client.abort();

    let line = |target: &str| as_text(&wait_for_line(&ballast, target));
    let tried = [line("/w/1"), line("/w/2")];
    assert!(tried.contains(&json!([200, "complete", ["ok"]])));
    assert!(tried.contains(&json!([200, "complete", ["connect", "ok"]])));
    assert_eq!(line("/no"), json!([404, "no_route", []]));
    assert_eq!(line("/denied"), json!([403, "denied", []]));
    assert_eq!(line("/rate?2"), json!([429, "rate_limited", []]));
    for (target, status, ending, reason) in [
        ("/w/late", 504, "host_timeout", "timeout"),
        ("/w/reset", 200, "host_reset", "reset"),
        ("/w/gone", 200, "client_gone", "client"),
    ] {
        let line = line(target);
        assert_eq!([&line[0], &line[1]], [&json!(status), &json!(ending)]);
        let reasons = line[2].as_array().expect("a list");
        assert_eq!(reasons.last(), Some(&json!(reason)), "{target}");
    }
}

#[test]
fn a_line_has_the_trace_and_span_that_the_host_received() {
    let backend = Backend::start_new("a");
    let ballast = logging(Setup::of(&[&backend]), "format: json")
        .top("tracing: { sample: 0% }")
        .start();
    get(ballast.address(), "/traced");
    let traceparent = backend.last().head.get("traceparent").map(str::to_owned);
    assert!(traceparent.is_some());
    let line = wait_for_line(&ballast, "/traced");
    assert_eq!(line["traceparent"].as_str().map(str::to_owned), traceparent);
}

#[test]
fn rejected_and_incomplete_requests_have_lines() {
    let backend = Backend::start_new("a");
    let ballast = logging(Setup::of(&[&backend]), "format: json")
        .top("timeouts: { client_head: 2s }")
        .top("limits: { head: 1KiB }")
        .start();
    let ask = |bytes: &str| {
        let source = "127.0.0.9".parse().expect("an address");
        let mut client = Client::from_ip(source, ballast.address()).expect("connected");
        client.request(bytes).map(|response| response.status)
    };
    let long = "x".repeat(2_000);
    for (number, (bytes, status, ending)) in [
        ("GET  / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_request"),
        (
            "GET / HTTP/1.1\r\nno field\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".to_owned(),
            405,
            "bad_request",
        ),
        (format!("GET / HTTP/1.1\r\nA: {long}"), 431, "too_large"),
        ("GET / HTTP/1.1\r\nHo".to_owned(), 408, "client_timeout"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(ask(&bytes).expect("a response"), status, "{bytes}");
        let lines = wait_for_lines(&ballast, number + 1);
        assert_eq!(as_text(&lines[number]), json!([status, ending, []]));
        assert_eq!(lines[number]["client"], "127.0.0.9");
        let target = match status {
            405 => json!("a:1"),
            _ => Value::Null,
        };
        assert_eq!(lines[number]["target"], target);
    }
    let mut aborted = Client::connect(ballast.address());
    aborted.send("GET / HT").expect("the connection is open");
    drop(aborted);
    assert_eq!(
        as_text(&wait_for_lines(&ballast, 6)[5]),
        json!([null, "client_gone", []])
    );
    // A connection without a request is not logged.
    drop(Client::connect(ballast.address()));
    get(ballast.address(), "/");
    wait_for_lines(&ballast, 7);
    assert_eq!(backend.requests(), 1);
}

#[test]
fn a_line_has_the_time_in_the_queue() {
    let backend = Backend::start_new("a");
    let ballast = logging(Setup::of(&[&backend]), "format: json")
        .pool("limits: { max_in_flight: 1, queue: 1, queue_timeout: 9s }")
        .start();
    let address = ballast.address();
    backend.set(Reply::ok().after(Duration::from_millis(300)));
    let first = thread::spawn(move || get(address, "/first").status);
    wait_until(SOON, "the first request runs", || backend.requests() == 1);
    assert_eq!(get(address, "/second").status, 200);
    assert_eq!(first.join().expect("a response"), 200);
    assert_eq!(wait_for_line(&ballast, "/first")["queue_ms"], 0.0);
    let second = wait_for_line(&ballast, "/second");
    let [queued, total] = ["queue_ms", "total_ms"].map(|key| second[key].as_f64());
    assert!(queued > Some(100.0) && queued < total, "{second}");
}

#[test]
fn lines_of_tls_requests_are_marked() {
    let authority = Authority::new("test");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (certificate, key) = authority.issue(&["a.test"]).write(folder.path(), "a");
    let backend = Backend::start_new("a");
    let ballast = logging(Setup::of(&[&backend]), "format: json")
        .top(&format!(
            "listeners: [{{ address: \"{LISTEN}\", tls: {{ certificates: \
             [{{ certificate: \"{}\", key: \"{}\" }}] }} }}]",
            certificate.display(),
            key.display()
        ))
        .start();
    let tls = || Client::tls(ballast.address(), "a.test", authority.client()).expect("connected");
    let response = tls().request("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(response.expect("a response").status, 200);
    let bad = tls().request("GET  / HTTP/1.1\r\n\r\n");
    assert_eq!(bad.expect("a response").status, 400);
    let lines = wait_for_lines(&ballast, 2);
    assert_eq!(lines[0]["tls"], true);
    assert_eq!(lines[1]["tls"], true);
    assert_eq!(lines[1]["status"], 400);
}

#[test]
fn no_bytes_of_a_client_break_a_line() {
    let backend = Backend::start_new("a");
    let ballast = logging(Setup::of(&[&backend]), "format: json").start();
    let values: [&[u8]; 6] = [
        b"\"},{\"status\":200",
        b"\\\" \\u0000",
        b"caf\xc3\xa9 \xe2\x80\xa8",
        b"\xff\xfe \xc3",
        b"\xc2\x9b31m",
        b"a\tb",
    ];
    let known = ["\"},{\"status\":200", "\\\" \\u0000", "caf\u{e9} \u{2028}"];
    // Lines of one connection are in the order of its requests.
    let mut client = Client::connect(ballast.address());
    for value in values {
        let head = b"GET /\"{}\\\xc3\xa9 HTTP/1.1\r\nHost: test\r\nUser-Agent: ";
        let request = [head, value, b"\r\nReferer: ", value, b"\r\n\r\n"].concat();
        client.request(request).expect("a response");
    }
    let lines = wait_for_lines(&ballast, values.len());
    for (line, value) in lines.iter().zip(known) {
        assert_eq!(line["user_agent"], value);
        assert_eq!(line["referer"], value);
    }
    assert!(lines.iter().all(|line| line["target"] == "/\"{}\\\u{e9}"));
    assert_eq!(lines[3]["user_agent"], "\u{fffd}\u{fffd} \u{fffd}");
    assert_eq!(lines[4]["user_agent"], "\u{fffd}31m");
    assert_eq!(lines[5]["user_agent"], "a\tb");
}

#[test]
fn lines_can_be_sampled_by_status() {
    let backend = Backend::start_new("a");
    let sample = "sample: [{ statuses: 200, share: 20% }, { statuses: [300-399, 404], share: 0% }]";
    let ballast = logging(Setup::of(&[&backend]), sample).start();
    let mut client = Client::connect(ballast.address());
    const ASKED: usize = 900;
    for (status, count) in [(200, ASKED), (302, 5), (404, 5), (500, 5)] {
        backend.set(Reply::status(status));
        for _ in 0..count {
            client.get(&format!("/{status}"));
        }
    }
    // Lines are written in order.
    backend.set(Reply::status(418));
    client.get("/last");
    wait_for_line(&ballast, "/last");
    let all = super::objects(&ballast.path(super::FILE));
    let of = |target: &str| all.iter().filter(|line| line["target"] == target).count();
    // 180 expected, with a standard deviation of 12.
    assert!((100..260).contains(&of("/200")), "{}", of("/200"));
    assert_eq!([of("/302"), of("/404"), of("/500")], [0, 0, 5]);
}
