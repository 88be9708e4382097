//! HTTP/2 without TLS, beside HTTP/1.1 on the same listener.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::http2::{END_HEADERS, END_STREAM, HEADERS, Http2, SETTINGS, fields, frame};
use crate::support::{Backend, Ballast, Client, LISTEN, Setup, get};

fn listening(further: &str, backend: &Backend) -> Ballast {
    Setup::of(&[backend])
        .top(&format!(
            "listeners: [{{ address: \"{LISTEN}\", http2: cleartext }}]"
        ))
        .top(
            "server: { http1: HTTP1 }"
                .replace("HTTP1", further)
                .as_str(),
        )
        .top("timeouts: { client_head: 1s }")
        .start()
}

/// The test for each of the two that may serve HTTP/1.1.
fn with_both(test: impl Fn(&Backend, &Ballast)) {
    for driver in ["engine", "pingora"] {
        let backend = Backend::start_new("web");
        test(&backend, &listening(driver, &backend));
    }
}

#[test]
fn both_protocols_are_served_on_one_listener() {
    with_both(|backend, ballast| {
        let mut http2 = Http2::connect_plain(ballast.address());
        for _ in 0..3 {
            assert_eq!(http2.get("/").field("x-backend"), "web");
            assert_eq!(backend.last().head.get("x-forwarded-proto"), Some("http"));
            assert_eq!(get(ballast.address(), "/").backend(), "web");
        }
        assert_eq!(
            http2
                .post("/", &[b'x'; 200_000])
                .expect("a response")
                .status,
            200
        );
        assert_eq!(
            Client::connect(ballast.address()).post("/", b"x").status,
            200
        );
    });
}

#[test]
fn curl_speaks_it_with_prior_knowledge_and_without() {
    with_both(|_, ballast| {
        for (option, version) in [("--http2-prior-knowledge", "2"), ("--http2", "1.1")] {
            let curl = Command::new("curl")
                .args([
                    option,
                    "-sS",
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code} %{http_version}",
                ])
                .arg(format!("http://{}/", ballast.address()))
                .output()
                .expect("curl runs");
            let told = String::from_utf8_lossy(&curl.stdout).into_owned();
            assert_eq!(told, format!("200 {version}"), "{curl:?}");
        }
    });
}

#[test]
fn a_preface_in_pieces_is_no_http_1() {
    with_both(|_, ballast| {
        let mut socket = TcpStream::connect(ballast.address()).expect("connected");
        socket.set_nodelay(true).expect("a socket");
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
            socket.write_all(&[*byte]).expect("sent");
            std::thread::yield_now();
        }
        socket.write_all(&frame(SETTINGS, 0, 0, &[])).expect("sent");
        socket
            .write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[])))
            .expect("sent");
        let mut client = Client::of(socket);
        let begin = client.wire().read_some(9).expect("frames");
        assert_eq!(begin[3], SETTINGS, "{begin:?}");
        // A method that begins as the preface does.
        let mut client = Client::connect(ballast.address());
        for piece in ["P", "R", "OPFIND / HTTP/1.1\r\nHost: test\r\n\r\n"] {
            client.send(piece).expect("sent");
        }
        assert_eq!(client.read_response(false).expect("a response").status, 200);
    });
}

#[test]
fn half_a_preface_is_not_waited_for_without_end() {
    with_both(|_, ballast| {
        let began = Instant::now();
        let mut clients = ["", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"].map(|begin| {
            let mut client = Client::connect(ballast.address());
            client.send(begin).expect("sent");
            client
        });
        for client in &mut clients {
            client.set_read_timeout(Duration::from_secs(10));
            while client
                .wire()
                .read_some(1_000)
                .is_ok_and(|bytes| !bytes.is_empty())
            {}
        }
        assert!(
            began.elapsed() < Duration::from_secs(8),
            "{:?}",
            began.elapsed()
        );
    });
}

#[test]
fn a_listener_that_does_not_ask_for_it_speaks_http_1() {
    let backend = Backend::start_new("web");
    let ballast = Setup::of(&[&backend]).start();
    let mut client = Client::connect(ballast.address());
    let response = client
        .request("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("a response");
    assert_eq!(response.status, 400);
}
