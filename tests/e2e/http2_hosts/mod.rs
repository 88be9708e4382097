//! Hosts that speak HTTP/2, asked by clients of HTTP/1.1 and of HTTP/2.

mod health_checks;
mod misbehaving;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::support::http2::{Secure, request};
use crate::support::http2_backend::{Http2Backend, Stream};
use crate::support::{Authority, Ballast, Client, SOON, Setup, get, wait_until};

/// A backend without TLS that returns what it is sent, or its greeting.
pub(super) fn echo() -> Http2Backend {
    Http2Backend::start(respond_with_echo)
}

async fn respond_with_echo(mut stream: Stream) {
    let body = stream.read().await;
    let body = if body.is_empty() {
        b"hello".to_vec()
    } else {
        body
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("right"));
    trailers.insert("set-cookie", HeaderValue::from_static("a=b"));
    stream.answer(200, body, trailers);
}

/// A pool of hosts that speak HTTP/2 without TLS.
pub(super) fn h2c(hosts: &[&Http2Backend]) -> Setup {
    let setup = Setup::of(&[]).pool("protocol: h2c");
    hosts
        .iter()
        .fold(setup, |setup, host| setup.host(host.address()))
}

#[test]
fn a_client_of_http_1_reaches_hosts_of_http_2() {
    let host = echo();
    let ballast = h2c(&[&host]).start();
    let mut client = Client::connect(ballast.address());
    let response = client.get_with(
        "/a?b=c",
        "TE: trailers\r\nConnection: te, x-hop\r\nX-Hop: 1\r\n",
    );
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    let seen = host.last();
    assert_eq!(seen.uri().to_string(), "http://test/a?b=c");
    assert!(!seen.headers().contains_key("x-hop"), "{seen:?}");
    assert!(!seen.headers().contains_key("host"), "{seen:?}");
    assert_eq!(seen.headers()["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen.headers()["x-forwarded-proto"], "http");
    // The same connection, and one to the host for all requests.
    let body = vec![b'x'; 300_000];
    let response = client.post("/upload", &body);
    assert_eq!(response.body, body);
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("sent");
    client.send_chunk("one").expect("sent");
    client.send_chunk("").expect("sent");
    assert_eq!(
        client.read_response(false).expect("a response").text(),
        "one"
    );
    assert_eq!(
        client
            .request("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n")
            .expect("a response")
            .status,
        200
    );
    assert_eq!(get(ballast.address(), "/").text(), "hello");
    assert_eq!(host.connections(), 1);
}

#[test]
fn a_client_of_http_1_0_is_refused_since_it_takes_no_chunks() {
    let host = echo();
    let ballast = h2c(&[&host]).start();
    let mut client = Client::connect(ballast.address());
    client
        .send("GET / HTTP/1.0\r\nHost: test\r\n\r\n")
        .expect("sent");
    assert_eq!(client.read_response(false).expect("a response").status, 505);
}

#[test]
fn a_connection_goes_on_at_the_engine_until_a_request_needs_http_2() {
    let (plain, host) = (crate::support::Backend::start_new("plain"), echo());
    let yaml = |first: &str| {
        format!(
            "listeners: [\"LISTEN\"]\nroutes:\n- {{ path: /two, pool: two }}\n- {{ pool: one }}\npools:\n  \
             one: {{ hosts: [\"{}\"], health_check: none }}\n  two: {{ hosts: [\"{first}\"], protocol: h2c, health_check: none }}\n",
            plain.address(),
        )
    };
    let ballast = Ballast::start(&yaml(&host.address().to_string()));
    let mut client = Client::connect(ballast.address());
    assert_eq!(client.get("/one").backend(), "plain");
    // Both requests come at once: what follows the first one is handed over with it.
    let pair = "GET /two HTTP/1.1\r\nHost: test\r\n\r\nGET /one HTTP/1.1\r\nHost: test\r\n\r\n";
    client.send(pair).expect("sent");
    assert_eq!(
        client.read_response(false).expect("a response").text(),
        "hello"
    );
    assert_eq!(
        client.read_response(false).expect("a response").backend(),
        "plain"
    );
    assert_eq!(client.get("/two").text(), "hello");
}

#[test]
fn requests_share_a_connection_and_trailers_reach_clients_of_http_2() {
    let host = echo();
    let secure = Secure::new();
    let ballast = h2c(&[&host]).top(&secure.listeners()).start();
    let mut client = secure.connect(ballast.address());
    let (first, mut upload) = client.open(request("POST", "/first"), false).expect("open");
    upload.send_data("slow ".into(), false).expect("sent");
    wait_until(SOON, "the first stream", || host.streams() == 1);
    assert_eq!(client.get("/second").body, b"hello");
    upload.send_data("upload".into(), true).expect("sent");
    let (response, trailers) = client.with_trailers(first);
    assert_eq!(response.body, b"slow upload");
    let trailers = trailers.expect("trailers");
    assert_eq!(trailers["x-checksum"], "right");
    assert!(!trailers.contains_key("set-cookie"), "{trailers:?}");
    assert_eq!((host.connections(), host.streams()), (1, 2));
    assert_eq!(host.last().uri().to_string(), "http://test/second");
}

#[test]
fn hosts_choose_their_protocol_in_the_tls_handshake() {
    let authority = Authority::new("hosts");
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).expect("written");
    let tls = |protocols: &[&[u8]]| {
        let mut config = (*authority.issue(&["127.0.0.1"]).server()).clone();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    };
    let modern = Http2Backend::with(
        h2::server::Builder::new(),
        Some(tls(&[b"h2"])),
        respond_with_echo,
    );
    let old = crate::support::Backend::start_tls("old", tls(&[]));
    let setup = |protocol: &str, host: std::net::SocketAddr| {
        Setup::of(&[])
            .host(host)
            .pool(&format!("protocol: {protocol}"))
            .pool(&format!("tls: {{ ca: \"{}\" }}", ca.display()))
    };
    for (protocol, host, expected) in [
        ("auto", modern.address(), "hello"),
        ("auto", old.address(), "old"),
        ("http2", modern.address(), "hello"),
    ] {
        let ballast = setup(protocol, host).start();
        let mut client = Client::connect(ballast.address());
        client
            .send("GET / HTTP/1.0\r\nHost: test\r\n\r\n")
            .expect("sent");
        let status = client.read_response(false).expect("a response").status;
        let expected_status = if protocol == "http2" { 505 } else { 200 };
        if expected == "old" || protocol == "http2" {
            assert_eq!(status, expected_status, "{protocol}");
        }
        let response = get(ballast.address(), "/");
        let got = (response.status, response.text() + response.backend());
        assert!(
            got.0 == 200 && got.1.contains(expected),
            "{protocol}: {got:?}"
        );
        assert_eq!(get(ballast.address(), "/").status, 200, "{protocol}");
    }
    let scheme = modern.last().uri().scheme_str().map(str::to_owned);
    assert_eq!(scheme.as_deref(), Some("https"));
    assert_eq!(
        get(setup("http2", old.address()).start().address(), "/").status,
        502
    );
}

#[test]
fn streams_are_requests_in_flight_and_further_connections_are_opened() {
    let permits = Arc::new(tokio::sync::Semaphore::new(0));
    let (waiting, opened) = (Arc::clone(&permits), Arc::new(AtomicU64::new(0)));
    let seen = Arc::clone(&opened);
    let mut settings = h2::server::Builder::new();
    settings.max_concurrent_streams(2);
    let host = Http2Backend::with(settings, None, move |stream| {
        let (waiting, seen) = (Arc::clone(&waiting), Arc::clone(&seen));
        async move {
            if stream.request.uri().path() == "/wait" {
                seen.fetch_max(stream.connection, Ordering::SeqCst);
                let _permit = waiting.acquire().await;
            }
            stream.answer(200, "done", HeaderMap::new());
        }
    });
    let secure = Secure::new();
    let ballast = h2c(&[&host]).top(&secure.listeners()).start();
    let mut client = secure.connect(ballast.address());
    // The host's settings arrive with the first response.
    assert_eq!(client.get("/").body, b"done");
    let mut running = Vec::new();
    for number in 1..=5 {
        running.push(client.open(request("GET", "/wait"), true).expect("open").0);
        wait_until(SOON, "the stream", || host.streams() == 1 + number);
    }
    assert_eq!(host.connections(), 3, "two streams on each");
    let status = ballast.command(&["status", "--json"]).stdout;
    assert!(
        status.contains("\"in_flight\":5") || status.contains("\"in_flight\": 5"),
        "{status}"
    );
    permits.add_permits(5);
    for response in client.all(running) {
        assert_eq!(response.expect("a response").body, b"done");
    }
    assert_eq!(client.get("/").body, b"done");
    assert_eq!(host.connections(), 3, "a free one is used");
}

#[test]
fn an_upgrade_needs_http_1() {
    let host = echo();
    let ballast = h2c(&[&host]).start();
    let response = Client::connect(ballast.address()).get_with(
        "/",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    );
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
}

#[test]
fn a_client_that_does_not_read_delays_only_itself() {
    let host = Http2Backend::start(|stream| async move {
        let size = if stream.request.uri().path() == "/large" {
            4 << 20
        } else {
            1
        };
        stream.answer(200, vec![b'x'; size], HeaderMap::new());
    });
    let ballast = h2c(&[&host])
        .top("limits: { max_connections: 100 }")
        .start();
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(ballast.address());
        client
            .send("GET /large HTTP/1.1\r\nHost: test\r\n\r\n")
            .expect("sent");
        client.read_head().expect("a head");
        stalled.push(client);
    }
    let began = std::time::Instant::now();
    assert_eq!(get(ballast.address(), "/").text(), "x");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(host.connections(), 1);
}
