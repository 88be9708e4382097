//! HTTP/2: every rule for requests holds for each stream, and the connection as a whole is bounded.

mod cleartext;
mod conformance;
mod content_length;
mod external_clients;
mod floods;
mod graceful_shutdown;
mod informational;
mod limits;
mod paths;
mod request_trailers;
mod slow_clients;
mod tunnels;

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderValue, Request};

use crate::support::http2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, NO_ERROR, PROTOCOL_ERROR, RST_STREAM, RawHttp2,
    Secure, fields, frame, request,
};
use crate::support::{Backend, DeadHost, Framing, Next, Reply, SOON, Setup, wait_until};

/// A request with one more field.
fn with_field(mut request: Request<()>, name: &'static str, value: &str) -> Request<()> {
    let value = HeaderValue::from_str(value).expect("a valid value");
    request.headers_mut().append(name, value);
    request
}

#[test]
fn a_tls_listener_offers_http2_unless_disabled() {
    let backend = Backend::start_new("a");
    for (further, both, new) in [
        ("", Some("h2"), Some("h2")),
        ("http2: true", Some("h2"), Some("h2")),
        ("http2: false", Some("http/1.1"), None),
    ] {
        let secure = Secure::with(further);
        let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
        let chosen = |offered: &[&str]| {
            let chosen = secure.chosen(ballast.address(), offered);
            chosen.map(|name| String::from_utf8(name).expect("a name"))
        };
        assert_eq!(chosen(&["http/1.1", "h2"]).as_deref(), both, "{further}");
        assert_eq!(chosen(&["http/1.1"]).as_deref(), Some("http/1.1"));
        assert_eq!(chosen(&[]), None);
        if new.is_some() {
            assert_eq!(chosen(&["h2"]).as_deref(), new, "{further}");
        }
    }
}

#[test]
fn a_reload_in_place_cannot_change_http2() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let setup = Setup::of(&[&backend]);
    let ballast = setup.clone().top(&secure.listeners()).start();
    let without = secure.listeners().replace("}], ", "}], http2: false");
    let outcome = ballast.reload_by_sighup(&setup.top(&without).yaml());
    assert!(
        outcome.contains("tls.http2 changed from true to false"),
        "{outcome}"
    );
    assert_eq!(secure.connect(ballast.address()).get("/").status, 200);
}

#[test]
fn requests_are_forwarded_over_http_1_1() {
    let backend = Backend::start_new("a");
    backend.set(
        Reply::ok()
            .field("X-Two", "1")
            .field("X-Two", "2")
            .field("Keep-Alive", "timeout=5")
            .body("hello".repeat(10_000))
            .chunked(),
    );
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut client = secure.connect(ballast.address());
    let mut request_to_send = with_field(request("GET", "/a%7Eb?q=1"), "cookie", "a=1");
    request_to_send = with_field(
        with_field(request_to_send, "cookie", "b=2"),
        "te",
        "trailers",
    );
    let response = client.ask(request_to_send).expect("a response");
    assert_eq!(response.status, 200);
    assert_eq!(response.body, "hello".repeat(10_000).as_bytes());
    let two = response.fields.get_all("x-two").iter().count();
    assert_eq!(two, 2);
    assert!(response.fields.contains_key("date"));
    for forbidden in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
        assert!(!response.fields.contains_key(forbidden), "{forbidden}");
    }

    let head = backend.last().head;
    assert_eq!(head.word(1), "/a%7Eb?q=1");
    assert_eq!(head.word(2), "HTTP/1.1");
    assert_eq!(head.all("host"), ["test"]);
    assert_eq!(head.all("cookie"), ["a=1; b=2"]);
    assert_eq!(head.all("via"), ["2.0 ballast"]);
    assert_eq!(head.all("x-forwarded-proto"), ["https"]);
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(head.all("x-request-id").len(), 1);
    assert_eq!(head.get("te"), None);

    backend.set(Reply::ok());
    let response = client.ask(request("HEAD", "/")).expect("a response");
    assert_eq!((response.status, response.body.len()), (200, 0));
    let sent = vec![b'x'; 300_000];
    let response = client.post("/", &sent).expect("a response");
    assert_eq!(response.status, 200);
    assert_eq!(backend.last().body.len(), sent.len());
    backend.set(Reply::status(204));
    assert_eq!(client.get("/").status, 204);
    assert_eq!(secure.connect(ballast.address()).get("/").status, 204);
}

#[test]
fn streams_of_one_connection_do_not_wait_for_each_other() {
    let backend = Backend::start_new("a");
    backend.set(Reply::ok().after(Duration::from_secs(1)));
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut client = secure.connect(ballast.address());
    client.get("/");
    let start = std::time::Instant::now();
    let open: Vec<_> = (0..50)
        .map(|number| client.open(request("GET", &format!("/{number}")), true))
        .collect();
    for opened in open {
        let (response, _) = opened.expect("a stream");
        assert_eq!(
            client
                .wait_for_response(response)
                .expect("a response")
                .status,
            200
        );
    }
    let duration = start.elapsed();
    assert!(duration < SOON, "{duration:?}: one after another");
    assert_eq!(backend.requests(), 51);
}

#[test]
fn error_responses_end_the_stream_but_not_the_connection() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let dead = DeadHost::new();
    let ballast = crate::support::Ballast::start(&format!(
        "{}\n\
         timeouts: {{ read: 1s }}\n\
         limits: {{ body: 1000, target: 200, fields: 20 }}\n\
         pools:\n\
         \x20 web: {{ hosts: [\"{}\"], health_check: none, retries: none }}\n\
         \x20 dead: {{ hosts: [\"{}\"], health_check: none, ejection: none, retries: none }}\n\
         routes: [{{ path: /dead, pool: dead }}, {{ path: /few, pool: web, rate: {{ requests: 1, burst: 1 }} }}, {{ path: /inside, pool: web, allow: [10.0.0.0/8] }}, {{ path: /web, pool: web }}]\n",
        secure.listeners(),
        backend.address(),
        dead.address(),
    ));
    let mut client = secure.connect(ballast.address());
    let long = format!("/web{}", "x".repeat(200));
    assert_eq!(client.get("/web/few").status, 200);
    assert_eq!(client.get("/few").status, 200);
    for (method, path, status) in [
        ("GET", "/", 404),
        ("HEAD", "/", 404),
        ("TRACE", "/web", 405),
        ("GET", &*long, 414),
        ("GET", "/inside", 403),
        ("GET", "/few", 429),
        ("GET", "/dead", 502),
        ("HEAD", "/dead", 502),
    ] {
        let response = client.ask(request(method, path)).expect("a response");
        assert_eq!(response.status, status, "{method} {path}");
        assert!(!response.fields.contains_key("connection"), "{path}");
        assert_eq!(response.body.is_empty(), method == "HEAD", "{path}");
        assert_eq!(client.get("/web").status, 200, "after {method} {path}");
    }
    let few = client.get("/few");
    assert!(few.field("retry-after").parse::<u64>().is_ok(), "{few:?}");

    let tunnel = Request::connect("test:443").body(()).expect("a request");
    assert_eq!(client.ask(tunnel).expect("a response").status, 405);

    // Too large by the number of fields, by their bytes, by the announced length of the body, and by the received
    // length.
    let mut many = request("GET", "/web");
    for _ in 0..21 {
        many = with_field(many, "x-many", "1");
    }
    assert_eq!(client.ask(many).expect("a response").status, 431);
    let large = with_field(request("GET", "/web"), "x-large", &"x".repeat(40_000));
    assert_eq!(client.ask(large).expect("a response").status, 431);
    let declared = with_field(request("POST", "/web"), "content-length", "1001");
    let (response, _stream) = client.open(declared, false).expect("a stream");
    assert_eq!(
        client
            .wait_for_response(response)
            .expect("a response")
            .status,
        413
    );
    let response = client.post("/web", &[b'x'; 200_000]).expect("a response");
    assert_eq!(response.status, 413);
    assert_eq!(client.get("/web").status, 200);

    // The side that is late: the host with its response, or the client with its body.
    backend.set(Reply::Hang);
    assert_eq!(client.get("/web").status, 504);
    backend.set(Reply::Drip(Duration::from_millis(100)));
    assert_eq!(
        client.get("/web").status,
        504,
        "the response head has a deadline of 1 s"
    );
    backend.set(Reply::ok());
    let (response, _stream) = client
        .open(request("POST", "/web"), false)
        .expect("a stream");
    assert_eq!(
        client
            .wait_for_response(response)
            .expect("a response")
            .status,
        408
    );
    assert_eq!(client.get("/web").status, 200);
    assert!(ballast.log_with(&["WARN"]).is_empty());
}

#[test]
fn malformed_requests_reach_no_host() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut raw = secure.raw(ballast.address(), &[]);
    let mut stream = 1;
    let mut ends = |raw: &mut RawHttp2, further: &[(&str, &str)]| {
        raw.get(stream, further);
        let end = loop {
            let frame = raw.next(SOON);
            let frame = frame.unwrap_or_else(|| panic!("no response to {further:?}"));
            if frame.stream == stream {
                break frame;
            }
        };
        stream += 2;
        end
    };
    let one: &[&[(&str, &str)]] = &[
        &[("connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("upgrade", "h2c")],
        &[("keep-alive", "timeout=5")],
        &[("proxy-connection", "close")],
        &[("te", "gzip")],
        &[("x-first", "1"), (":path", "/other")],
        &[("content-length", "5"), ("content-length", "6")],
        &[("content-length", "5")],
    ];
    for bad in one {
        let end = ends(&mut raw, bad);
        assert_eq!(
            (end.kind, end.reason()),
            (RST_STREAM, PROTOCOL_ERROR),
            "{bad:?}"
        );
    }
    // 400 is the 12th entry of the static table.
    for bad in [
        &[("host", "other")][..],
        &[("host", "test"), ("host", "test")],
        &[("host", "a b")],
    ] {
        let end = ends(&mut raw, bad);
        assert_eq!((end.kind, end.payload[0]), (HEADERS, 0x8c), "{bad:?}");
    }
    // Bytes that cannot be a field at all end the connection.
    for bad in [("X-Upper", "1"), ("x-y", "a\r\nx-z: b"), ("x-y", "a\0b")] {
        let mut raw = secure.raw(ballast.address(), &[]);
        raw.get(1, &[bad]);
        assert_ne!(raw.wait_for(GOAWAY).reason(), NO_ERROR, "{bad:?}");
        assert!(raw.ends_within(SOON), "{bad:?}");
    }
    assert_eq!(backend.requests(), 0);
    let good = ends(&mut raw, &[("host", "test")]);
    assert_eq!((good.kind, good.payload[0]), (HEADERS, 0x88));
    assert_eq!(backend.requests(), 1);
}

#[test]
fn a_body_of_the_wrong_length_reaches_no_host_complete() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    for body in [&b"abc"[..], b"abcdefg"] {
        let mut raw = secure.raw(ballast.address(), &[]);
        let mut block = fields(&[("content-length", "5")]);
        block[0] = 0x83;
        raw.send(&frame(HEADERS, END_HEADERS, 1, &block))
            .expect("sent");
        raw.send(&frame(DATA, END_STREAM, 1, body)).expect("sent");
        let end = raw.wait_for(RST_STREAM);
        assert_eq!((end.stream, end.reason()), (1, PROTOCOL_ERROR));
    }
    // The request that went out first is cancelled.
    wait_until(SOON, "the host has no open request", || {
        backend.open_connections() == 0
    });
}

#[test]
fn a_host_failure_during_a_response_ends_one_stream() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut client = secure.connect(ballast.address());
    backend.set(Reply::ok().after(Duration::from_millis(500)));
    let (beside, _) = client.open(request("GET", "/"), true).expect("a stream");
    wait_until(SOON, "the request has arrived", || backend.requests() == 1);
    backend.set(Reply::ResetMidBody);
    let error = client
        .ask(request("GET", "/"))
        .expect_err("an invalid response");
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    assert_eq!(
        client.wait_for_response(beside).expect("a response").status,
        200
    );
    backend.set(Reply::ok());
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn failed_requests_are_retried_as_in_http_1_1() {
    let (good, bad) = (Backend::start_new("good"), Backend::start_new("bad"));
    let secure = Secure::new();
    let ballast = Setup::of(&[&good, &bad])
        .top(&secure.listeners())
        .pool("ejection: none")
        .start();
    bad.set(Reply::Reset);
    let mut client = secure.connect(ballast.address());
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(bad.requests() >= 4, "the host gets requests");
    let before = (good.requests(), bad.requests());
    let statuses: Vec<u16> = (0..10)
        .map(|_| client.post("/", b"once").expect("a response").status)
        .collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 5);
    let after = (good.requests(), bad.requests());
    assert_eq!((after.0 - before.0, after.1 - before.1), (5, 5));
}

#[test]
fn a_cancelled_stream_cancels_the_request_to_the_host() {
    let backend = Backend::start_new("a");
    backend.set(Reply::Hang);
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut client = secure.connect(ballast.address());
    let (response, mut stream) = client.open(request("POST", "/"), false).expect("a stream");
    stream
        .send_data(Bytes::from_static(b"begun"), false)
        .expect("sent");
    wait_until(SOON, "the request has arrived", || backend.requests() == 1);
    drop((response, stream));
    wait_until(SOON, "the host's connection is closed", || {
        backend.open_connections() == 0
    });
    backend.set(Reply::ok());
    assert_eq!(client.get("/").status, 200);
    assert!(ballast.log_with(&["ERROR"]).is_empty());
}

#[test]
fn a_client_keeps_its_host_by_its_cookie() {
    let backends = ["a", "b", "c"].map(Backend::start_new);
    let secure = Secure::new();
    let ballast = Setup::of(&[&backends[0], &backends[1], &backends[2]])
        .top(&secure.listeners())
        .pool("sticky: { cookie: node }")
        .start();
    let mut client = secure.connect(ballast.address());
    let first = client.get("/");
    let set = first.field("set-cookie");
    assert!(set.contains("Secure"), "{set}");
    let cookie = set.split(';').next().expect("a cookie").to_owned();
    for _ in 0..10 {
        let request_to_send = with_field(request("GET", "/"), "cookie", "other=1");
        let response = client
            .ask(with_field(request_to_send, "cookie", &cookie))
            .expect("a response");
        assert_eq!(response.field("x-backend"), first.field("x-backend"));
    }
}

#[test]
fn the_last_streams_of_a_connection_are_served() {
    let backend = Backend::start_new("a");
    backend.set(Reply::script(|_, wire| {
        wire.read_body(Framing::Length(0))?;
        std::thread::sleep(Duration::from_millis(200));
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(Next::Keep)
    }));
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend])
        .top(&secure.listeners())
        .top("limits: { max_requests_per_connection: 10 }")
        .start();
    let mut client = secure.connect(ballast.address());
    // Once the client knows that the connection ends, it opens no further streams.
    let open: Vec<_> = (0..15)
        .map_while(|_| client.open(request("GET", "/"), true).ok())
        .map(|(response, _)| response)
        .collect();
    assert!(open.len() >= 10, "{} streams", open.len());
    let statuses: Vec<u16> = open
        .into_iter()
        .map(|response| {
            client
                .wait_for_response(response)
                .expect("a response")
                .status
        })
        .collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    client.end().expect("an end without an error");
    assert_eq!(secure.connect(ballast.address()).get("/").status, 200);
}
