//! Compression of responses on their way to clients: over HTTP/1.1, over TLS, and over HTTP/2.

use std::io::Read;
use std::sync::{Arc, Mutex, mpsc};

use crate::support::http2::{DATA, END_STREAM, Secure, request};
use crate::support::{
    AnyResponse, Backend, BothProtocols, CannedResponse, Client, Next, Reply, Response, SOON,
    Setup, wait_for,
};

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

fn reader<'a>(coding: &str, bytes: &'a [u8]) -> Box<dyn Read + 'a> {
    match coding {
        "zstd" => Box::new(zstd::stream::read::Decoder::new(bytes).expect("a decoder")),
        "br" => Box::new(brotli::Decompressor::new(bytes, 4096)),
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        _ => Box::new(bytes),
    }
}

/// The decoded body, which must be whole.
#[track_caller]
fn decode(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let read = reader(coding, bytes).read_to_end(&mut decoded);
    read.expect("a whole body");
    decoded
}

/// What can be decoded of a body that goes on.
fn decode_begin(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut reader = reader(coding, bytes);
    let mut piece = [0; 1024];
    while let Ok(count @ 1..) = reader.read(&mut piece) {
        decoded.extend_from_slice(&piece[..count]);
    }
    decoded
}

/// Text of about this many bytes, which compresses as pages do.
fn text(bytes: usize) -> Vec<u8> {
    let lines = (0_u64..).flat_map(|line| {
        let number = line.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        format!("<li class=\"item\"><a href=\"/items/{number}\">Item {line}</a></li>\n")
            .into_bytes()
    });
    Vec::from_iter(lines.take(bytes))
}

fn page(body: &[u8]) -> CannedResponse {
    Reply::ok()
        .field("Content-Type", "text/html; charset=utf-8")
        .body(body)
}

fn setup(backend: &Backend, compression: &str) -> Setup {
    Setup::of(&[backend]).top(&format!("compression: {compression}"))
}

/// The content coding and the fields of Vary, sorted.
fn coded(seen: &AnyResponse) -> (&str, Vec<&str>) {
    let mut vary = seen.all("vary");
    vary.sort_unstable();
    (seen.field("content-encoding"), vary)
}

#[test]
fn responses_are_compressed_as_clients_ask() {
    let backend = Backend::start_new("a");
    let mut both = BothProtocols::start(&setup(&backend, "true"));
    let body = text(100_000);
    let whole = page(&body)
        .field("ETag", "\"v1\"")
        .field("Accept-Ranges", "bytes");
    for (accepted, coding) in [
        ("zstd", "zstd"),
        ("br", "br"),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("X-GZIP", "gzip"),
        ("deflate, *;q=0.1", "zstd"),
        ("identity, br;q=0.5", ""),
        ("gzip;q=0", ""),
        ("gzip;q=2", ""),
        ("", ""),
    ] {
        for reply in [whole.clone(), whole.clone().chunked()] {
            backend.set(reply);
            for seen in both.ask("GET", ("test", "/"), &[("Accept-Encoding", accepted)]) {
                let what = format!("{accepted} over {}", seen.scheme);
                assert_eq!(seen.status, 200, "{what}");
                assert_eq!(coded(&seen), (coding, vec!["Accept-Encoding"]), "{what}");
                assert!(decode(coding, &seen.bytes) == body, "{what}");
                if coding.is_empty() {
                    assert_eq!(seen.all("etag"), ["\"v1\""], "{what}");
                    assert_eq!(seen.all("accept-ranges"), ["bytes"], "{what}");
                } else {
                    assert!(seen.bytes.len() < body.len() / 4, "{what}");
                    assert_eq!(seen.all("etag"), ["W/\"v1\""], "{what}");
                    assert_eq!(seen.all("accept-ranges"), [] as [&str; 0], "{what}");
                    assert_eq!(seen.all("content-length"), [] as [&str; 0], "{what}");
                }
            }
        }
    }
    // The host sees what the client has sent.
    assert_eq!(backend.last().head.all("accept-encoding"), [""]);
}

#[test]
fn large_bodies_stay_whole_and_ends_of_connections_end_them() {
    let backend = Backend::start_new("a");
    let mut both = BothProtocols::start(&setup(&backend, "true"));
    let body = Arc::new(text(3 << 20));
    let until_close = {
        let body = Arc::clone(&body);
        Reply::script(move |_, wire| {
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")?;
            wire.send(&body[..])?;
            Ok(Next::Close)
        })
    };
    let replies = [
        page(&body).into(),
        page(&body).chunked().into(),
        until_close,
    ];
    for (coding, reply) in CODINGS.into_iter().zip(replies) {
        backend.set(reply);
        for seen in both.ask("GET", ("test", "/"), &[("Accept-Encoding", coding)]) {
            assert_eq!(seen.field("content-encoding"), coding);
            assert!(decode(coding, &seen.bytes) == *body, "{coding}");
        }
    }
}

#[test]
fn what_must_not_be_compressed_is_not() {
    let backend = Backend::start_new("a");
    let mut both = BothProtocols::start(&setup(&backend, "{ min_size: 100, types: [text/*] }"));
    let body = text(2_000);
    let varies = vec!["Accept-Encoding"];
    let field = |name, value| page(&body).field(name, value);
    let of_type = |value| Reply::ok().body(body.clone()).field("Content-Type", value);
    let status = |status| {
        Reply::status(status)
            .body(body.clone())
            .field("Content-Type", "text/html")
    };
    for (reply, coding, vary) in [
        (page(&body), "gzip", varies.clone()),
        (status(404), "gzip", varies.clone()),
        (status(500), "gzip", varies.clone()),
        (of_type("TEXT/Plain"), "gzip", varies.clone()),
        (of_type("text/x-unknown ; a=b"), "gzip", varies.clone()),
        (
            field("Content-Encoding", "identity"),
            "gzip",
            varies.clone(),
        ),
        (field("Cache-Control", "no-store"), "gzip", varies.clone()),
        (
            field("Vary", "Origin"),
            "gzip",
            vec!["Accept-Encoding", "Origin"],
        ),
        (
            field("Vary", "accept-encoding, Origin"),
            "gzip",
            vec!["accept-encoding, Origin"],
        ),
        (field("Vary", "*"), "gzip", vec!["*"]),
        (page(&body[..100]), "gzip", varies),
        (page(&body[..99]), "", vec![]),
        (page(b"").chunked(), "gzip", vec!["Accept-Encoding"]),
        (page(b""), "", vec![]),
        (of_type("image/png"), "", vec![]),
        (of_type("application/json"), "", vec![]),
        (of_type(""), "", vec![]),
        (Reply::ok().body(body.clone()), "", vec![]),
        (
            of_type("text/html").field("Content-Type", "text/css"),
            "",
            vec![],
        ),
        (field("Content-Encoding", "br"), "br", vec![]),
        (field("Content-Encoding", "x-unknown"), "x-unknown", vec![]),
        (field("Cache-Control", "public, No-Transform"), "", vec![]),
        (field("Content-Range", "bytes 0-1999/9999"), "", vec![]),
        (field("Content-MD5", "Q2hlY2sgSW50ZWdyaXR5IQ=="), "", vec![]),
        (field("Digest", "sha-256=x"), "", vec![]),
        (field("Content-Digest", "sha-256=:AA==:"), "", vec![]),
        (field("Repr-Digest", "sha-256=:AA==:"), "", vec![]),
        (status(206), "", vec![]),
        (status(204), "", vec![]),
    ] {
        backend.set(reply.clone());
        for seen in both.ask("GET", ("test", "/"), &[("Accept-Encoding", "gzip")]) {
            assert_eq!(
                coded(&seen),
                (coding, vary.clone()),
                "{}: {reply:?}",
                seen.scheme
            );
        }
    }
    backend.set(page(&body));
    let asked = [
        ("Accept-Encoding", "gzip"),
        ("Cache-Control", "no-transform"),
    ];
    for seen in both.ask("GET", ("test", "/"), &asked) {
        assert_eq!(
            coded(&seen),
            ("", vec!["Accept-Encoding"]),
            "{}",
            seen.scheme
        );
        assert!(seen.bytes == body);
    }
    // HTTP/1.0 has no chunks.
    let mut client = Client::connect(both.plain.address());
    let old = client.request("GET / HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n");
    let old = old.expect("a response");
    assert_eq!(old.head.get("content-encoding"), None);
    assert_eq!(old.head.get("vary"), Some("Accept-Encoding"));
    assert!(old.body == body);
}

#[test]
fn heads_and_validators_are_those_of_the_compressed_response() {
    let backend = Backend::start_new("a");
    let mut both = BothProtocols::start(&setup(&backend, "true"));
    let gzip = ("Accept-Encoding", "gzip");
    backend.set(page(&text(5_000)).field("ETag", "\"v1\""));
    for seen in both.ask("HEAD", ("test", "/"), &[gzip]) {
        assert_eq!(coded(&seen), ("gzip", vec!["Accept-Encoding"]));
        assert_eq!(seen.all("etag"), ["W/\"v1\""]);
        assert_eq!(seen.all("content-length"), [] as [&str; 0]);
        assert!(seen.bytes.is_empty());
    }
    for seen in both.ask("HEAD", ("test", "/"), &[]) {
        assert_eq!(coded(&seen), ("", vec!["Accept-Encoding"]));
        assert_eq!(seen.all("content-length"), ["5000"]);
    }
    for (etag, expected) in [("W/\"v1\"", vec!["W/\"v1\""]), ("v1", vec![])] {
        backend.set(page(&text(5_000)).field("ETag", etag));
        for seen in both.ask("GET", ("test", "/"), &[gzip]) {
            assert_eq!(seen.all("etag"), expected, "{etag}");
        }
    }
    let not_modified = Reply::status(304).body("").field("ETag", "\"v1\"");
    let html = not_modified.clone().field("Content-Type", "text/html");
    for (reply, known, etag, vary) in [
        (
            &not_modified,
            "W/\"v1\"",
            "W/\"v1\"",
            vec!["Accept-Encoding"],
        ),
        (
            &not_modified,
            "\"v0\", W/\"v1\"",
            "W/\"v1\"",
            vec!["Accept-Encoding"],
        ),
        (&not_modified, "\"v1\"", "\"v1\"", vec![]),
        (&not_modified, "*", "\"v1\"", vec![]),
        (&html, "\"v1\"", "\"v1\"", vec!["Accept-Encoding"]),
    ] {
        backend.set(reply.clone());
        for seen in both.ask("GET", ("test", "/"), &[gzip, ("If-None-Match", known)]) {
            assert_eq!(seen.status, 304);
            assert_eq!(coded(&seen), ("", vary.clone()), "{known}");
            assert_eq!(seen.all("etag"), [etag], "{known}");
            assert!(seen.bytes.is_empty());
        }
    }
}

/// A host that sends an event, and the next one only once the test has seen the first.
fn events(backend: &Backend) -> mpsc::Sender<()> {
    let (seen, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    backend.set(Reply::script(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for event in ["data: first\n\n", "data: second\n\n"] {
            wire.send_chunk(event)?;
            let waited = wait.lock().map(|wait| wait.recv_timeout(SOON));
            assert!(matches!(waited, Ok(Ok(()))), "{event} never arrived");
        }
        wire.send_chunk("")?;
        Ok(Next::Keep)
    }));
    seen
}

#[test]
fn streams_stay_streams() {
    const EVENTS: [&str; 2] = ["data: first\n\n", "data: first\n\ndata: second\n\n"];
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let setup = setup(&backend, "{ types: [text/event-stream] }");
    let plain = setup.start();
    let over_tls = setup.clone().top(&secure.listeners()).start();
    for coding in CODINGS {
        let tls = Client::tls(over_tls.address(), "test", secure.offering(&["http/1.1"]));
        for mut client in [Client::connect(plain.address()), tls.expect("connected")] {
            let seen = events(&backend);
            let head = format!("GET / HTTP/1.1\r\nHost: test\r\nAccept-Encoding: {coding}\r\n\r\n");
            client.send(head).expect("sent");
            let (status, head) = client.read_head().expect("a head");
            assert_eq!((status, head.get("content-encoding")), (200, Some(coding)));
            let mut bytes = Vec::new();
            for expected in EVENTS {
                while decode_begin(coding, &bytes) != expected.as_bytes() {
                    let chunk = client.wire().read_chunk().expect("a chunk");
                    assert!(!chunk.is_empty(), "{coding} ended before {expected}");
                    bytes.extend(chunk);
                }
                seen.send(()).expect("the host waits for it");
            }
            loop {
                let chunk = client.wire().read_chunk().expect("a chunk");
                if chunk.is_empty() {
                    break;
                }
                bytes.extend(chunk);
            }
            assert_eq!(decode(coding, &bytes), EVENTS[1].as_bytes());
        }
        let seen = events(&backend);
        let mut raw = secure.raw(over_tls.address(), &[]);
        raw.get(1, &[("accept-encoding", coding)]);
        let mut bytes = Vec::new();
        for expected in EVENTS {
            while decode_begin(coding, &bytes) != expected.as_bytes() {
                bytes.extend(raw.wait_for(DATA).payload);
            }
            seen.send(()).expect("the host waits for it");
        }
        loop {
            let frame = raw.wait_for(DATA);
            bytes.extend(frame.payload);
            if frame.flags & END_STREAM != 0 {
                break;
            }
        }
        assert_eq!(decode(coding, &bytes), EVENTS[1].as_bytes());
    }
}

#[test]
fn a_response_that_breaks_off_does_not_look_whole() {
    let backend = Backend::start_new("a");
    let mut both = BothProtocols::start(&setup(&backend, "true"));
    let announced = "Content-Length: 100000\r\n\r\nbeginning";
    let in_chunks = "Transfer-Encoding: chunked\r\n\r\n9\r\nbeginning\r\n";
    for (coding, rest) in CODINGS.into_iter().zip([announced, in_chunks, announced]) {
        backend.set(Reply::script(move |_, wire| {
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{rest}"
            ))?;
            Ok(Next::Close)
        }));
        let mut client = Client::connect(both.plain.address());
        let head = format!("GET / HTTP/1.1\r\nHost: test\r\nAccept-Encoding: {coding}\r\n\r\n");
        assert!(client.request(head).is_err(), "{coding}");
        let mut over_http2 = request("GET", "/");
        let coding = coding.parse().expect("a value");
        over_http2.headers_mut().insert("accept-encoding", coding);
        assert!(both.http2.ask(over_http2).is_err(), "{rest}");
    }
}

#[test]
fn routes_and_reloads_switch_it() {
    let backend = Backend::start_new("a");
    let setup = setup(&backend, "{ algorithms: [br, gzip], min_size: 2KiB }").top(
        r#"routes:
- { path: /off/, pool: web, compression: false }
- { path: /gzip/, pool: web, compression: { algorithms: gzip } }
- path: /edited/
  pool: web
  response_headers:
    set: { Vary: Origin, ETag: '"route"' }
    remove: [Content-Encoding]
- path: /coded/
  pool: web
  response_headers: { set: { Content-Encoding: dcb } }
- { path: /no-transform/, pool: web, response_headers: { set: { Cache-Control: no-transform } } }
- { path: /local/, respond: { status: 200, body: "xxxxxxxxxxxxxxxxxxxxxxxxxxxx", type: text/html } }
- { pool: web }"#,
    );
    let mut both = BothProtocols::start(&setup);
    let body = text(3_000);
    backend.set(page(&body));
    let all = [("Accept-Encoding", "gzip, br, zstd")];
    for (path, coding, vary) in [
        ("/", "br", vec!["Accept-Encoding"]),
        ("/off/", "", vec![]),
        ("/gzip/", "gzip", vec!["Accept-Encoding"]),
        ("/edited/", "br", vec!["Accept-Encoding", "Origin"]),
        ("/coded/", "dcb", vec![]),
        ("/no-transform/", "", vec![]),
        ("/local/", "", vec![]),
    ] {
        for seen in both.ask("GET", ("test", path), &all) {
            assert_eq!(coded(&seen), (coding, vary.clone()), "{path}");
            if path == "/edited/" {
                assert_eq!(seen.all("etag"), ["W/\"route\""]);
            }
        }
    }
    backend.set(page(&body[..2_000]));
    for seen in both.ask("GET", ("test", "/gzip/"), &all) {
        assert_eq!(coded(&seen), ("", vec![]), "the size is from the top level");
    }
    backend.set(page(&body));
    let mut client = Client::connect(both.plain.address());
    let coding = |client: &mut Client| {
        let response: Response = client.get_with("/", "Accept-Encoding: gzip\r\n");
        response.head.get("content-encoding").map(str::to_owned)
    };
    assert_eq!(coding(&mut client).as_deref(), Some("gzip"));
    let yaml = setup.yaml();
    let on = "compression: { algorithms: [br, gzip], min_size: 2KiB }";
    let off = yaml.replace(on, "compression: false");
    assert_ne!(yaml, off);
    both.plain.reload_by_sighup(&off);
    assert_eq!(coding(&mut client), None);
    both.plain.reload_by_sighup(&yaml);
    assert_eq!(coding(&mut client).as_deref(), Some("gzip"));
}

#[test]
fn the_access_log_counts_what_clients_receive() {
    let backend = Backend::start_new("a");
    backend.set(page(&text(100_000)));
    let setup = setup(&backend, "true").top("access_log: { path: access.log, format: json }");
    let mut both = BothProtocols::start(&setup);
    let gzip = ("Accept-Encoding", "gzip");
    let seen = both.ask("GET", ("test", "/"), &[gzip]);
    for (ballast, seen) in [&both.plain, &both.over_tls].into_iter().zip(&seen) {
        let line: serde_json::Value = wait_for(SOON, "a line of the log", || {
            let text = std::fs::read_to_string(ballast.path("access.log")).ok()?;
            serde_json::from_str(text.lines().next()?).ok()
        });
        assert_eq!(line["sent"], seen.bytes.len(), "{line}");
    }
}
