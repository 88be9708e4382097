//! The admin address and unknown clients: what they may consume, and which responses they get.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::admin::with_admin;
use crate::support::{Backend, Ballast, Client, SOON, Setup};

fn running(backend: &Backend) -> (Ballast, SocketAddr) {
    let (setup, admin) = with_admin(Setup::of(&[backend]));
    (setup.start(), admin)
}

fn status(admin: SocketAddr, request: &str) -> u16 {
    let response = Client::connect(admin).request(request);
    response.expect("every request gets a response").status
}

#[test]
fn silent_connections_do_not_block_probes() {
    let backend = Backend::start_new("a");
    let (_ballast, admin) = running(&backend);
    let silent = Vec::from_iter((0..400).map(|number| {
        let mut stream = TcpStream::connect(admin).expect("connected");
        if number % 2 == 0 {
            stream.write_all(b"GET /metrics HT").expect("sent");
        }
        stream
    }));
    for path in ["/healthz", "/ready", "/metrics", "/api/v1/status"] {
        let start = Instant::now();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(status(admin, &request), 200, "{path}");
        // The process sends a response to a silent connection after ten seconds.
        assert!(start.elapsed() < Duration::from_secs(8), "{path}");
    }
    // The process closed the oldest connections with a response.
    let mut response = String::new();
    let mut oldest = &silent[0];
    oldest.read_to_string(&mut response).expect("a response");
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(
        response.to_lowercase().contains("retry-after: 1\r\n"),
        "{response}"
    );
}

#[test]
fn every_refused_request_gets_a_response() {
    let backend = Backend::start_new("a");
    let (_ballast, admin) = running(&backend);
    let large = "a".repeat(20_000);
    let body = "a".repeat(70_000);
    for (request, expected) in [
        ("GET /ready HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(), 200),
        ("GET /ready HTTP/1.0\r\n\r\n".to_owned(), 200),
        (
            "\r\nGET /ready HTTP/1.1\r\nHost: test\r\n\r\n".to_owned(),
            200,
        ),
        ("GET /ready HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            "GET /ready HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(),
            400,
        ),
        ("no request\r\n\r\n".to_owned(), 400),
        (
            format!("GET /ready HTTP/1.1\r\nHost: a\r\nA: {large}\r\n\r\n"),
            431,
        ),
        (format!("GET /{large} HTTP/1.1\r\nHost: a\r\n\r\n"), 431),
        (
            format!("GET /ready HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n{body}"),
            413,
        ),
        ("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 404),
        ("DELETE /ready HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 405),
    ] {
        let shown = &request[..request.len().min(60)];
        assert_eq!(status(admin, &request), expected, "{shown}");
    }
}

#[test]
fn an_incomplete_head_gets_a_response_after_ten_seconds() {
    let backend = Backend::start_new("a");
    let (_ballast, admin) = running(&backend);
    let mut client = Client::connect(admin);
    client.set_read_timeout(Duration::from_secs(30));
    let start = Instant::now();
    let response = client.request("GET /ready HTTP/1.1\r\nHost: te");
    assert_eq!(response.expect("a response").status, 408);
    let duration = start.elapsed().as_secs_f64();
    assert!((9.0..30.0).contains(&duration), "{duration}");
}

#[test]
fn reload_previews_of_unknown_clients_do_not_block_a_reload() {
    let backend = Backend::start_new("a");
    let (ballast, admin) = running(&backend);
    let request = "GET /api/v1/reload/preview HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let clients = Vec::from_iter((0..50).map(|_| {
        thread::spawn(move || {
            Client::connect(admin)
                .request(request)
                .map(|response| response.status)
        })
    }));
    let start = Instant::now();
    let reloaded = ballast.reload();
    assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
    assert!(start.elapsed() < SOON);
    for client in clients {
        let status = client.join().expect("no panic").expect("a response");
        assert!(matches!(status, 200 | 503), "{status}");
    }
    assert_eq!(status(admin, request), 200);
}
