//! Requests and responses pass whole and unbuffered, over connections that are kept.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::{Backend, Client, Next, Reply, SOON, Setup, get, wait_until};

/// More bytes than any buffer on the way holds.
const MANY: usize = 20 * 1024 * 1024;

#[test]
fn request_and_response_pass_unchanged() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    backend.set(
        Reply::status(418)
            .field("X-Custom", "one")
            .field("Set-Cookie", "a=1")
            .field("Set-Cookie", "b=2")
            .body("teapot"),
    );
    let mut client = Client::connect(ballast.address());
    let response = client
        .request(
            "PUT /a%20b/c?d=e&d=f HTTP/1.1\r\nHost: shop.example:8080\r\nX-Mine: yes\r\n\
             Accept: */*\r\nContent-Length: 4\r\n\r\nbody",
        )
        .expect("a complete response");
    assert_eq!(response.status, 418);
    assert_eq!(response.text(), "teapot");
    assert_eq!(response.head.get("x-custom"), Some("one"));
    assert_eq!(response.head.all("set-cookie"), ["a=1", "b=2"]);
    let seen = backend.last();
    assert_eq!(seen.head.start, "PUT /a%20b/c?d=e&d=f HTTP/1.1");
    assert_eq!(seen.head.get("host"), Some("shop.example:8080"));
    assert_eq!(seen.head.get("x-mine"), Some("yes"));
    assert_eq!(seen.head.get("accept"), Some("*/*"));
    assert_eq!(seen.body, b"body");
}

#[test]
fn every_method_passes() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PATCH", "REPORT"] {
        let response = client
            .request(format!("{method} /x HTTP/1.1\r\nHost: test\r\n\r\n"))
            .unwrap_or_else(|error| panic!("{method}: {error}"));
        assert_eq!(response.status, 200, "{method}");
        assert_eq!(backend.last().head.word(0), method);
    }
    backend.set(Reply::status(204));
    assert_eq!(client.get("/").status, 204);
    assert_eq!(client.get("/").status, 204);
}

#[test]
fn response_bodies_are_streamed() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    backend.set(Reply::script(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        wire.send_chunk("first")?;
        let waited = released.lock().map(|released| released.recv_timeout(SOON));
        assert!(
            matches!(waited, Ok(Ok(()))),
            "the first chunk never arrived"
        );
        wire.send_chunk("last")?;
        wire.send_chunk("")?;
        Ok(Next::Keep)
    }));
    let mut client = Client::connect(ballast.address());
    client
        .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    assert_eq!(client.read_head().expect("a head").0, 200);
    assert_eq!(client.wire().read_chunk().expect("a chunk"), b"first");
    release.send(()).expect("the backend waits for it");
    assert_eq!(client.wire().read_chunk().expect("a chunk"), b"last");
    assert_eq!(client.wire().read_chunk().expect("the end"), b"");
}

#[test]
fn request_bodies_are_streamed() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("sent");
    client.send_chunk("first").expect("sent");
    wait_until(
        SOON,
        "the first chunk arrives before the last is sent",
        || backend.requests() == 1 && backend.last().body == b"first",
    );
    client.send_chunk(" last").expect("sent");
    client.send_chunk("").expect("sent");
    assert_eq!(
        client
            .read_response(false)
            .expect("a complete response")
            .status,
        200
    );
    assert_eq!(backend.last().body, b"first last");
}

#[test]
fn twenty_megabytes_pass_intact_both_ways() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let body = pattern(MANY);
    backend.set(Reply::ok().body(body.clone()));
    let mut client = Client::connect(ballast.address());
    assert!(client.post("/up-and-down", &body).body == body);
    assert!(backend.last().body == body);

    backend.set(Reply::ok().body(body.clone()).chunked());
    client
        .send("POST /chunked HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("sent");
    for piece in body.chunks(1_000_003) {
        client.send_chunk(piece).expect("sent");
    }
    client.send_chunk("").expect("sent");
    assert!(
        client
            .read_response(false)
            .expect("a complete response")
            .body
            == body
    );
    assert!(backend.last().body == body);
}

#[test]
fn a_slow_reader_gets_everything() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let body = pattern(2 * 1024 * 1024);
    backend.set(Reply::ok().body(body.clone()));
    let mut client = Client::connect(ballast.address());
    client
        .send("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect("sent");
    client.read_head().expect("a head");
    let mut read = Vec::new();
    while read.len() < body.len() {
        let bytes = client.wire().read_some(64 * 1024).expect("more");
        assert!(!bytes.is_empty(), "closed after {} bytes", read.len());
        read.extend(bytes);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(read == body);
}

#[test]
fn connections_are_kept_on_both_sides() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    for number in 0..20 {
        let response = client.get(&format!("/{number}"));
        assert!(!response.head.has_token("connection", "close"));
    }
    for _ in 0..5 {
        client.post("/", b"body");
    }
    assert_eq!((backend.requests(), backend.connections()), (25, 1));
    // The requests of other clients use the existing connections. A request may come before the last connection is
    // free again.
    for _ in 0..10 {
        assert_eq!(get(ballast.address(), "/").status, 200);
    }
    assert!(backend.connections() <= 3, "{}", backend.connections());
}

#[test]
fn a_host_that_closes_after_each_response_does_not_end_client_connections() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    backend.set(Reply::ok().field("Connection", "close").then_close());
    for _ in 0..10 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(backend.connections(), 10);
    // A response whose body ends with the close of the connection costs the client nothing either.
    backend.set(Reply::script(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\n\r\nuntil the close")?;
        Ok(Next::Close)
    }));
    assert_eq!(client.get("/").text(), "until the close");
}

#[test]
fn a_client_may_request_connection_close() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    let response = client.get_with("/", "Connection: close\r\n");
    assert_eq!(response.status, 200);
    assert!(client.is_closed_within(SOON));
    // `Connection: close` applies only between client and proxy: the connection to the host stays.
    assert!(!backend.last().head.has_token("connection", "close"));

    for _ in 0..10 {
        let mut old = Client::connect(ballast.address());
        let response = old
            .request("GET / HTTP/1.0\r\n\r\n")
            .expect("a complete response");
        assert_eq!(response.text(), "a\n");
        assert!(old.is_closed_within(SOON));
    }
    assert!(backend.connections() <= 4, "{}", backend.connections());
}

#[test]
fn an_early_response_reaches_the_client() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    backend.set(Reply::Early(413));
    let mut client = Client::connect(ballast.address());
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\nthe beginning")
        .expect("sent");
    assert_eq!(
        client
            .read_response(false)
            .expect("a complete response")
            .status,
        413
    );
}

#[test]
fn continue_reaches_a_client_that_expects_it() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    backend.set(Reply::script(|head, wire| {
        wire.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        wire.read_body(head.framing().expect("a body is announced"))?;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")?;
        Ok(Next::Keep)
    }));
    let mut client = Client::connect(ballast.address());
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .expect("sent");
    let head = client.wire().read_head().expect("read").expect("a head");
    assert_eq!(head.word(1), "100");
    client.send("body").expect("sent");
    assert_eq!(
        client
            .read_response(false)
            .expect("a complete response")
            .text(),
        "done"
    );
}

#[test]
fn a_half_closed_client_gets_its_response_with_half_close_serve() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).top("half_close: serve").start();
    backend.set(Reply::ok().after(Duration::from_millis(100)));
    let mut client = Client::connect(ballast.address());
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody")
        .expect("sent");
    client.finish_sending();
    assert_eq!(
        client
            .read_response(false)
            .expect("a complete response")
            .text(),
        "a\n"
    );
}

#[test]
fn a_truncated_response_body_does_not_look_complete() {
    let backend = Backend::start_new("a");
    let ballast = Setup::of(&[&backend]).start();
    backend.set(Reply::ResetMidBody);
    let mut client = Client::connect(ballast.address());
    client
        .request("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .expect_err("990 bytes are missing");
    backend.set(Reply::ok());
    assert_eq!(get(ballast.address(), "/").status, 200);
}

/// Bytes that show a lost, doubled or moved piece.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index ^ (index >> 8) ^ (index >> 16)) as u8)
        .collect()
}
