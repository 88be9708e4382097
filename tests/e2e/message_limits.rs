//! Single messages: their maximum size, and what the proxy changes in them.

use std::time::Instant;

use crate::support::{
    Backend, Ballast, Client, Next, Reply, Response, SOON, Setup, get, wait_until,
};

fn start_with(backend: &Backend, top: &str) -> Ballast {
    Setup::of(&[backend]).top(top).start()
}

#[track_caller]
fn ask(ballast: &Ballast, request: &str) -> Response {
    let mut client = Client::connect(ballast.address());
    client.request(request).expect("a complete response")
}

#[test]
fn an_oversized_head_or_target_is_refused_and_the_connection_closed() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let field = |length: usize| {
        let value = "a".repeat(length);
        format!("GET / HTTP/1.1\r\nHost: test\r\nX-Big: {value}\r\n\r\n")
    };
    let target = |length: usize| {
        let path = "a".repeat(length - 1);
        format!("GET /{path} HTTP/1.1\r\nHost: test\r\n\r\n")
    };
    let fields = |count: usize| {
        let fields = "X-A: 1\r\n".repeat(count - 1);
        format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
    };
    let head = 32 * 1024 - field(0).len();
    for good in [field(head), target(16 * 1024), fields(100)] {
        assert_eq!(ask(&ballast, &good).status, 200);
    }
    assert_eq!(backend.requests(), 3);
    for (bad, status) in [
        (field(head + 1), 431),
        (field(600_000), 431),
        (target(16 * 1024 + 1), 414),
        (fields(101), 431),
        (fields(256), 431),
    ] {
        let mut client = Client::connect(ballast.address());
        let response = client.request(bad).expect("a complete response");
        assert_eq!(response.status, status);
        assert_eq!(response.head.get("connection"), Some("close"));
        assert!(client.is_closed_within(SOON));
    }
    assert_eq!(backend.requests(), 3);
}

#[test]
fn an_invalid_request_line_is_refused_however_it_is_split() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let good = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody";
    let chunked =
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    let bad_lines = [
        "GET /a b HTTP/1.1\r\n",
        "GET /  HTTP/1.1\r\n",
        "GET  / HTTP/1.1\r\n",
        "GET /\0 HTTP/1.1\r\n",
        "GET /\x7f HTTP/1.1\r\n",
        "GET /\r HTTP/1.1\n",
        // The process refuses this line before it is complete.
        "GET /\t",
    ];
    for before in ["", good, post, chunked] {
        for bad in bad_lines {
            for octets in [false, true] {
                let mut client = Client::connect(ballast.address());
                if !before.is_empty() {
                    assert_eq!(client.request(before).expect("a response").status, 200);
                }
                let served = backend.requests();
                if octets {
                    for octet in bad.as_bytes() {
                        // The connection may be closed after the refusal.
                        let _ = client.send([*octet]);
                    }
                } else {
                    client.send(bad).expect("sent");
                }
                let refused = client.read_response(false).expect("a response");
                assert_eq!(refused.status, 400, "{bad:?}");
                assert!(client.is_closed_within(SOON));
                assert_eq!(backend.requests(), served, "{bad:?}");
            }
        }
    }
    assert!(ballast.log_with(&["ERROR"]).is_empty());
}

const REQUESTS: [&str; 4] = [
    "GET / HTTP/1.1\r\nHost: test\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody",
    "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
     4;a=b\r\nbody\r\n0\r\nX-T: a\r\nX-U: b\r\n\r\n",
];

#[test]
fn an_invalid_pipelined_request_line_is_refused() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    for (number, before) in REQUESTS.iter().enumerate() {
        for bad in ["GET /a b HTTP/1.1", "GET /\x01 HTTP/1.1", "GET / HTTP/1.1 "] {
            let all = [*before, *before, bad, "\r\nHost: test\r\n\r\n"].concat();
            // The test sends all bytes in one piece, and cut at each position near the start of the bad request.
            let cuts = (2 * before.len() - 3)..(2 * before.len() + 3);
            for cut in [all.len()].into_iter().chain(cuts) {
                let mut client = Client::connect(ballast.address());
                client.send(&all[..cut]).expect("sent");
                assert_eq!(
                    client
                        .read_response(false)
                        .expect("a complete response")
                        .status,
                    200
                );
                let _ = client.send(&all[cut..]);
                assert_eq!(
                    client
                        .read_response(false)
                        .expect("a complete response")
                        .status,
                    200
                );
                let response = client.read_response(false).expect("a complete response");
                assert_eq!(response.status, 400, "{number} {bad:?} {cut}");
                assert!(client.is_closed_within(SOON));
            }
        }
        // A good request at this place is served, with its own body.
        let mut client = Client::connect(ballast.address());
        client.send(REQUESTS.concat() + before).expect("sent");
        for _ in 0..=REQUESTS.len() {
            assert_eq!(
                client
                    .read_response(false)
                    .expect("a complete response")
                    .status,
                200
            );
        }
        assert_eq!(
            backend.last().body,
            if number == 0 { "" } else { "body" }.as_bytes()
        );
    }
}

#[test]
fn invalid_chunks_are_refused() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let head = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : a\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
    ] {
        let mut client = Client::connect(ballast.address());
        let response = client
            .request([head, body].concat())
            .expect("a complete response");
        assert_eq!(response.status, 400, "{body:?}");
        assert!(client.is_closed_within(SOON));
    }
    // The host that received a part of the body is not to blame.
    assert_eq!(get(ballast.address(), "/").status, 200);
}

/// The proxy's own responses, whichever part of the proxy finds the error.
#[test]
fn the_proxy_itself_responds_to_malformed_requests_and_connect() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    for (request, status, text) in [
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "malformed"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400, "malformed"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
            400,
            "malformed",
        ),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, "malformed"),
        (
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            405,
            "CONNECT",
        ),
        ("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "CONNECT"),
    ] {
        for before in ["", REQUESTS[0]] {
            let mut client = Client::connect(ballast.address());
            client.send([before, request].concat()).expect("sent");
            if !before.is_empty() {
                assert_eq!(
                    client
                        .read_response(false)
                        .expect("a complete response")
                        .status,
                    200
                );
            }
            let response = client.read_response(false).expect("a complete response");
            assert_eq!(response.status, status, "{request:?}");
            assert!(response.text().contains(text), "{}", response.text());
            assert_eq!(response.head.get("server"), None);
            let date = response.head.get("date").expect("a date");
            assert!(date.ends_with(" GMT"), "{date}");
            assert_eq!(response.head.get("allow").is_some(), status == 405);
            assert!(response.head.has_token("connection", "close"));
            assert!(client.is_closed_within(SOON), "{request:?}");
        }
    }
    assert!(ballast.log_with(&["ERROR"]).is_empty());
}

#[test]
fn a_valid_request_line_may_be_split_anywhere() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let good = "\r\nGET /a%20b HTTP/1.1\nHost: test\r\n\r\n";
    let chunked =
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    // The second request may begin in the piece in which the first one ends, so pieces do not mark its start.
    for before in [good, chunked] {
        for cut in 0..good.len() {
            let (first, second) = good.split_at(cut);
            let mut client = Client::connect(ballast.address());
            client.send(before.to_owned() + first).expect("sent");
            assert_eq!(client.read_response(false).expect("a response").status, 200);
            client.send(second).expect("sent");
            assert_eq!(client.read_response(false).expect("a response").status, 200);
            assert_eq!(client.request(good).expect("a response").status, 200);
        }
    }
}

#[test]
fn message_limits_are_configurable() {
    let backend = Backend::start_new("a");
    let ballast = start_with(&backend, "limits: { head: 1KiB, target: 100, fields: 10 }");
    let long = format!("/{}", "a".repeat(100));
    assert_eq!(get(ballast.address(), &long).status, 414);
    let mut client = Client::connect(ballast.address());
    let big = format!("X-Big: {}\r\n", "a".repeat(1024));
    assert_eq!(client.get_with("/", &big).status, 431);
    let mut client = Client::connect(ballast.address());
    assert_eq!(client.get_with("/", &"X-A: 1\r\n".repeat(10)).status, 431);
    // The same limits apply to the responses of hosts.
    for fields in ["X-A: 1\r\n".repeat(10), big] {
        backend.set(Reply::script(move |_, wire| {
            wire.send(format!(
                "HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"
            ))?;
            Ok(Next::Keep)
        }));
        assert_eq!(get(ballast.address(), "/").status, 502);
    }
}

const SMALL_BODY: &str = "limits: { body: 10 }";

#[test]
fn a_declared_length_over_the_limit_is_refused_at_once() {
    let backend = Backend::start_new("a");
    let ballast = start_with(&backend, SMALL_BODY);
    let mut client = Client::connect(ballast.address());
    assert_eq!(client.post("/", b"0123456789").status, 200);
    // The host gets no part of the body, and a client that waits for "100 Continue" never gets it.
    for expect in ["", "Expect: 100-continue\r\n"] {
        let mut client = Client::connect(ballast.address());
        let response = client
            .request(format!(
                "POST / HTTP/1.1\r\nHost: test\r\n{expect}Content-Length: 11\r\n\r\n"
            ))
            .expect("a complete response");
        assert_eq!(response.status, 413);
        assert_eq!(response.head.get("connection"), Some("close"));
    }
    assert_eq!(backend.requests(), 1);
}

#[test]
fn a_body_that_grows_too_large_is_cut_off() {
    let backend = Backend::start_new("a");
    let ballast = start_with(&backend, SMALL_BODY);
    let chunked = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = Client::connect(ballast.address());
    client.send(chunked).expect("sent");
    client.send_chunk("0123456789").expect("sent");
    wait_until(SOON, "the body up to the limit is forwarded", || {
        backend.requests() == 1 && backend.last().body == b"0123456789"
    });
    client.send_chunk("a").expect("sent");
    client.send_chunk("").expect("sent");
    let response = client.read_response(false).expect("a complete response");
    assert_eq!(response.status, 413);
    assert!(client.is_closed_within(SOON));
    wait_until(SOON, "the host has a part of the body", || {
        backend.open_connections() == 0
    });
    // A host that is cut off in this way is not to blame, and the limit applies to each request separately.
    let mut client = Client::connect(ballast.address());
    for _ in 0..3 {
        client.send(chunked).expect("sent");
        client.send_chunk("0123456789").expect("sent");
        client.send_chunk("").expect("sent");
        assert_eq!(
            client
                .read_response(false)
                .expect("a complete response")
                .status,
            200
        );
    }
}

#[test]
fn a_client_that_is_still_sending_gets_the_413() {
    const PIECE: &[u8] = &[b'a'; 64 * 1024];
    let backend = Backend::start_new("a");
    let ballast = start_with(&backend, SMALL_BODY);
    let mut announced = Client::connect(ballast.address());
    let length = 50 * PIECE.len();
    announced
        .send(format!(
            "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"
        ))
        .expect("sent");
    let mut growing = Client::connect(ballast.address());
    growing
        .send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("sent");
    for _ in 0..50 {
        announced.send(PIECE).expect("sent");
        growing.send_chunk(PIECE).expect("sent");
    }
    growing.send_chunk("").expect("sent");
    for mut client in [announced, growing] {
        assert_eq!(
            client
                .read_response(false)
                .expect("a complete response")
                .status,
            413
        );
        assert!(client.is_closed_within(SOON));
    }
}

#[test]
fn a_client_that_neither_sends_the_rest_nor_closes_is_not_waited_for() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend])
        .top(SMALL_BODY)
        .top("timeouts: { read: 60s }")
        .start();
    let announced = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\n";
    let begun = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\na";
    let growing = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
                   b\r\n0123456789a\r\n";
    let refused = "HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length:";
    for (request, host) in [
        (announced, None),
        (growing, None),
        (begun, Some(format!("{refused} 3\r\n\r\nno\n"))),
        (begun, Some(format!("{refused} 0\r\n\r\n"))),
    ] {
        if let Some(answer) = host {
            backend.set(Reply::script(move |_, wire| {
                wire.send(&answer)?;
                Ok(Next::Close)
            }));
        }
        let mut client = Client::connect(ballast.address());
        let response = client.request(request).expect("a complete response");
        assert_eq!(response.status, 413);
        let start = Instant::now();
        assert!(client.is_closed_within(SOON), "{request:?}");
        println!("closed after {:?}", start.elapsed());
    }
}

#[test]
fn a_reload_changes_message_limits_of_open_connections() {
    let backend = Backend::start_new("a");
    let setup = Setup::of(&[&backend]);
    let ballast = setup.start();
    let mut client = Client::connect(ballast.address());
    assert_eq!(client.post("/", b"0123456789a").status, 200);
    assert_eq!(backend.last().head.all("via"), ["1.1 ballast"]);
    let changed = setup.top("headers: { via: none }").top(SMALL_BODY);
    ballast.configure(&changed.yaml());
    wait_until(SOON, "the new file is loaded", || {
        ballast.reload().code == Some(0)
    });
    assert_eq!(client.post("/", b"0123456789").status, 200);
    assert_eq!(backend.last().head.get("via"), None);
    assert_eq!(client.post("/", b"0123456789a").status, 413);
}

#[test]
fn a_retried_body_counts_once() {
    let (broken, good) = (Backend::start_new("broken"), Backend::start_new("good"));
    broken.set(Reply::Reset);
    let ballast = Setup::of(&[&broken, &good]).top(SMALL_BODY).start();
    let mut client = Client::connect(ballast.address());
    for _ in 0..4 {
        let put = "PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n0123456789";
        let response = client.request(put).expect("a complete response");
        assert_eq!(response.status, 200);
        assert_eq!(good.last().body, b"0123456789");
    }
    assert!(broken.requests() > 0);
}

#[test]
fn pipelined_requests_are_served() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    backend.set(Reply::script(|head, wire| {
        let path = head.word(1);
        let length = path.len();
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{path}"
        ))?;
        Ok(Next::Keep)
    }));
    let mut client = Client::connect(ballast.address());
    let mut bytes = String::new();
    for number in 0..50 {
        bytes.push_str(&format!("GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }
    // The test sends the requests in one piece, and then in many pieces, split at any position.
    client.send(&bytes).expect("sent");
    for number in 0..50 {
        let response = client.read_response(false).expect("a complete response");
        assert_eq!(response.text(), format!("/{number}"));
    }
    for piece in bytes.as_bytes().chunks(61) {
        client.send(piece).expect("sent");
    }
    for number in 0..50 {
        let response = client.read_response(false).expect("a complete response");
        assert_eq!(response.text(), format!("/{number}"));
    }
    // The process ignores all bytes after a request that it refuses.
    let seen = backend.requests();
    let bad = "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nHost: test\r\n\r\n";
    assert_eq!(
        client.request(bad).expect("a complete response").status,
        400
    );
    assert!(client.is_closed_within(SOON));
    assert_eq!(backend.requests(), seen);
}

#[test]
fn an_http_1_0_client_gets_no_chunks() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    backend.set(Reply::ok().body("all of it").chunked());
    for fields in ["", "Connection: keep-alive\r\n"] {
        let mut client = Client::connect(ballast.address());
        let response = client
            .request(format!("GET / HTTP/1.0\r\n{fields}\r\n"))
            .expect("a complete response");
        assert_eq!(response.text(), "all of it");
        assert_eq!(response.head.get("transfer-encoding"), None);
        assert_eq!(response.head.get("content-length"), None);
        assert_eq!(response.head.get("connection"), Some("close"));
        assert_eq!(response.head.word(0), "HTTP/1.1");
    }
    // An HTTP/1.0 request may have no `Host` field, but the proxy sends HTTP/1.1 to the host.
    let head = backend.last().head;
    assert_eq!(head.all("host"), [backend.address().to_string()]);
    assert_eq!(head.get("x-forwarded-host"), None);
}

#[test]
fn responses_have_the_version_of_the_proxy() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    backend.set(Reply::script(|_, wire| {
        wire.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(Next::Close)
    }));
    let response = get(ballast.address(), "/");
    assert_eq!(response.text(), "ok");
    assert_eq!(response.head.word(0), "HTTP/1.1");
    assert_eq!(response.head.all("via"), ["1.0 ballast"]);
}

#[test]
fn the_proxy_itself_responds_to_trace_and_to_options_on_its_last_hop() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    let trace = "TRACE / HTTP/1.1\r\nHost: test\r\nCookie: secret\r\n\r\n";
    let response = client.request(trace).expect("a complete response");
    assert_eq!(response.status, 405);
    assert!(response.head.get("allow").is_some());
    assert!(!response.text().contains("secret"));
    let options =
        |count: &str| format!("OPTIONS / HTTP/1.1\r\nHost: test\r\nMax-Forwards: {count}\r\n\r\n");
    let response = client.request(options("0")).expect("a complete response");
    assert_eq!(response.status, 200);
    assert!(response.head.get("allow").is_some());
    assert_eq!(response.head.get("content-length"), Some("0"));
    assert_eq!(backend.requests(), 0);
    assert_eq!(
        client
            .request(options("1"))
            .expect("a complete response")
            .status,
        200
    );
    assert_eq!(backend.last().head.all("max-forwards"), ["0"]);
    // An absolute target without a path means the server as a whole.
    let whole = "OPTIONS http://test HTTP/1.1\r\nHost: test\r\n\r\n";
    assert_eq!(
        client.request(whole).expect("a complete response").status,
        200
    );
    assert_eq!(backend.last().head.start, "OPTIONS * HTTP/1.1");
}

#[test]
fn rejected_requests_get_the_reason() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    for (request, status, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, "Host"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "Host"),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
            "Transfer-Encoding",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n\
             0\r\n\r\n",
            400,
            "Transfer-Encoding",
        ),
        (
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: x\r\n\r\n",
            400,
            "Max-Forwards",
        ),
    ] {
        let mut client = Client::connect(ballast.address());
        let response = client.request(request).expect("a complete response");
        assert_eq!(response.status, status, "{request}");
        assert!(response.text().contains(reason), "{}", response.text());
        assert!(client.is_closed_within(SOON), "{request}");
    }
    assert_eq!(backend.requests(), 0);
}

#[test]
fn a_response_that_cannot_be_forwarded_counts_as_a_failure() {
    let (bad, good) = (Backend::start_new("bad"), Backend::start_new("good"));
    let ballast = Setup::of(&[&bad]).start();
    for malformed in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok",
        "HTTP/1.1 777 Odd\r\nContent-Length: 2\r\n\r\nok",
    ] {
        bad.set(Reply::script(move |_, wire| {
            wire.send(malformed)?;
            Ok(Next::Keep)
        }));
        let mut client = Client::connect(ballast.address());
        assert_eq!(client.get("/").status, 502, "{malformed}");
        wait_until(SOON, "the connection is not used again", || {
            bad.open_connections() == 0
        });
    }
    good.set(Reply::status(204).field("Content-Length", "2"));
    let ballast = Setup::of(&[&good]).start();
    let response = get(ballast.address(), "/");
    assert_eq!(response.status, 204);
    assert_eq!(response.head.get("content-length"), None);
}
