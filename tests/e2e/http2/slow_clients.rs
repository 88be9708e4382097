//! Clients that are slow, read nothing, or ask for more than they should. The tests use real sockets and short
//! deadlines.

use std::time::{Duration, Instant};

use crate::support::http2::{
    CONTINUATION, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE,
    NO_ERROR, PING, REFUSED_STREAM, RST_STREAM, RawHttp2, SETTINGS, Secure, WINDOW_UPDATE, fields,
    frame,
};
use crate::support::{Backend, Ballast, Reply, SOON, Setup, resident, wait_until};

const HEAD: Duration = Duration::from_millis(1_500);

/// Far above every deadline of these tests, and far below every default.
const SLACK: Duration = Duration::from_secs(9);

fn start(backend: &Backend, secure: &Secure) -> Ballast {
    Setup::of(&[backend])
        .top(&secure.listeners())
        // Each thread keeps connections of its own.
        .top("server: { threads: 1 }")
        .top("timeouts: { client_head: 1500ms, client_keepalive: 2s, write: 2s, read: 20s }")
        .start()
}

/// Sends pieces until the other side closes; returns the time that took.
fn drip(start: Instant, mut raw: RawHttp2, piece: &[u8]) -> Duration {
    while start.elapsed() < SLACK {
        if raw.send(piece).is_err() || raw.ends_within(Duration::from_millis(20)) {
            break;
        }
    }
    start.elapsed()
}

fn assert_closed_in_time(after: Duration) {
    assert!(after >= HEAD, "{after:?}");
    assert!(after < SLACK, "{after:?}");
}

#[test]
fn preface_settings_and_heads_have_deadlines() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = start(&backend, &secure);
    let address = ballast.address();
    let raw = || secure.raw(address, &[]);
    // No bytes at all; a part of the preface; only the preface.
    for start in [
        &b""[..],
        b"PRI * HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let begin = Instant::now();
        let mut silent = secure.silent(address);
        silent.send(start).expect("sent");
        assert!(silent.ends_within(SLACK), "{start:?}");
        assert_closed_in_time(begin.elapsed());
    }
    // A head that drips.
    let start = Instant::now();
    let mut unfinished = raw();
    unfinished
        .send(&frame(HEADERS, 5, 1, &[0x82; 200])[..20])
        .expect("sent");
    assert_closed_in_time(drip(start, unfinished, &[0x82]));
    // After a request that was served.
    let mut unfinished = raw();
    unfinished.get(1, &[]);
    unfinished.wait_for(HEADERS);
    unfinished
        .send(&frame(HEADERS, 5, 3, &fields(&[]))[..12])
        .expect("sent");
    let end = unfinished.wait_for(GOAWAY);
    assert_eq!(end.reason(), ENHANCE_YOUR_CALM);
    assert!(unfinished.ends_within(SLACK));
    assert_eq!(secure.connect(address).get("/").status, 200);
    assert!(ballast.log_with(&["ERROR"]).is_empty());
}

#[test]
fn an_idle_connection_ends_with_goaway() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = start(&backend, &secure);
    let mut idle = secure.raw(ballast.address(), &[]);
    idle.get(1, &[]);
    idle.wait_for(HEADERS);
    let begin = Instant::now();
    // Pings do not count as requests.
    for _ in 0..5 {
        idle.send(&frame(PING, 0, 0, &[7; 8])).expect("sent");
    }
    let end = idle.wait_for(GOAWAY);
    assert_eq!(end.reason(), NO_ERROR);
    let after = begin.elapsed();
    assert!(after > Duration::from_secs(1), "{after:?}");
    assert!(idle.ends_within(SLACK));
    // A connection with a long-lasting stream is not idle.
    backend.set(Reply::ok().after(Duration::from_secs(4)));
    let mut client = secure.connect(ballast.address());
    assert_eq!(client.get("/").status, 200);
    client.end().expect("an end without an error");
    // A client that does not say goodbye is disconnected a moment later.
    let mut not_reading = secure.raw(ballast.address(), &[]);
    assert!(not_reading.ends_within(SLACK));
}

#[test]
fn a_client_that_does_not_read_is_disconnected() {
    let backend = Backend::start_new("a");
    backend.set(Reply::ok().body(vec![b'x'; 20 << 20]));
    let secure = Secure::new();
    let ballast = start(&backend, &secure);
    // The stream has no window: it is reset, and the connection continues to serve.
    let mut raw = secure.raw(ballast.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
    raw.get(1, &[]);
    let end = raw.wait_for(RST_STREAM);
    assert_eq!(end.stream, 1);
    backend.set(Reply::status(204));
    raw.get(3, &[]);
    assert_eq!(raw.wait_for(HEADERS).payload[0], 0x89, "204");
    // All windows are open, but the client does not read the socket.
    backend.set(Reply::ok().body(vec![b'x'; 20 << 20]));
    let mut raw = secure.raw(ballast.address(), &[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)]);
    raw.send(&frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]))
        .expect("sent");
    raw.get(1, &[]);
    wait_until(SOON, "the request has arrived", || backend.requests() == 3);
    wait_until(SLACK, "the host is released", || {
        backend.open_connections() == 0
    });
    assert!(raw.ends_within(SLACK));
    assert_eq!(ballast.log_with(&["ERROR"]).len(), 0);
}

#[test]
fn at_most_a_hundred_streams_are_open() {
    let backend = Backend::start_new("a");
    backend.set(Reply::ok().after(Duration::from_secs(1)));
    let secure = Secure::new();
    let ballast = start(&backend, &secure);
    let mut raw = secure.raw(ballast.address(), &[]);
    let heads: Vec<u8> = (0..101)
        .flat_map(|number| frame(HEADERS, 5, 2 * number + 1, &fields(&[])))
        .collect();
    raw.send(&heads).expect("sent");
    let refused = raw.wait_for(RST_STREAM);
    assert_eq!((refused.stream, refused.reason()), (201, REFUSED_STREAM));
    for _ in 0..100 {
        assert_eq!(raw.wait_for(HEADERS).payload[0], 0x88, "200");
    }
    assert_eq!(backend.requests(), 100);
}

/// Opens streams and resets them at once, as fast as possible; returns how many it opened before the connection closed.
fn reset_rapidly(raw: &mut RawHttp2, between: impl Fn(&mut RawHttp2)) -> u32 {
    for number in 0..20_000 {
        let stream = 2 * number + 1;
        let opened = raw.send(&frame(HEADERS, 5, stream, &fields(&[])));
        between(raw);
        let reset = raw.send(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        if opened.and(reset).is_err() {
            return number;
        }
        if number % 10 == 0 && raw.ends_within(Duration::from_millis(1)) {
            return number;
        }
    }
    panic!("20,000 resets were taken");
}

#[test]
fn rapid_resets_end_the_connection_and_send_hosts_few_requests() {
    let backend = Backend::start_new("a");
    backend.set(Reply::Hang);
    let secure = Secure::new();
    let ballast = start(&backend, &secure);
    for pause in [Duration::ZERO, Duration::from_millis(3)] {
        let mut raw = secure.raw(ballast.address(), &[]);
        let before = backend.requests();
        let resets = reset_rapidly(&mut raw, |_| std::thread::sleep(pause));
        let reached = backend.requests() - before;
        println!("pause {pause:?}: {resets} resets, {reached} reached the host");
        assert!(resets < 2_000, "{resets}");
        assert!(reached <= 101, "{reached}");
    }
    wait_until(SOON, "the host has no open request", || {
        backend.open_connections() == 0
    });
    backend.set(Reply::ok());
    assert_eq!(secure.connect(ballast.address()).get("/").status, 200);
}

#[test]
fn occasional_resets_do_not_end_the_connection() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = start(&backend, &secure);
    let mut raw = secure.raw(ballast.address(), &[]);
    let mut stream = 1;
    for _ in 0..5 {
        backend.set(Reply::Hang);
        let before = backend.requests();
        for number in 0..40 {
            raw.get(stream + 2 * number, &[]);
        }
        wait_until(SOON, "the requests have arrived", || {
            backend.requests() == before + 40
        });
        for number in 0..40 {
            let reset = frame(RST_STREAM, 0, stream + 2 * number, &[0, 0, 0, 8]);
            raw.send(&reset).expect("sent");
        }
        stream += 80;
        backend.set(Reply::ok());
        for _ in 0..40 {
            raw.get(stream, &[]);
            assert_eq!(raw.wait_for(HEADERS).stream, stream);
            stream += 2;
        }
    }
}

#[test]
fn floods_of_small_frames_use_no_memory() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = start(&backend, &secure);
    assert_eq!(secure.connect(ballast.address()).get("/").status, 200);
    let before = resident(ballast.pid());
    let empty_head = frame(HEADERS, END_STREAM, 1, &fields(&[]));
    let large = frame(CONTINUATION, 0, 1, &[0; 16_000]);
    for (what, start, flood, times) in [
        ("pings", vec![], frame(PING, 0, 0, &[1; 8]), 20_000),
        ("settings", vec![], frame(SETTINGS, 0, 0, &[]), 20_000),
        (
            "empty continuations",
            empty_head.clone(),
            frame(CONTINUATION, 0, 1, &[]),
            20_000,
        ),
        ("continuations", empty_head, large, 100),
    ] {
        let mut raw = secure.raw(ballast.address(), &[]);
        let _ = raw.send(&start);
        let mut sent = 0;
        for piece in flood.repeat(times).chunks(16_000) {
            if raw.send(piece).is_err() || raw.ends_within(Duration::from_millis(1)) {
                break;
            }
            sent += piece.len();
        }
        let grown = resident(ballast.pid()).saturating_sub(before);
        println!("{what}: {sent} bytes taken, {grown} bytes more resident");
        assert!(grown < 10 << 20, "{what}: {grown}");
        if what.contains("continuations") {
            assert!(raw.ends_within(SLACK), "{what}");
        }
    }
    assert_eq!(secure.connect(ballast.address()).get("/").status, 200);
}

/// The HTTP/2 bomb of 2026: a few bytes that stand for many fields, and no window for the responses.
#[test]
fn hpack_bombs_use_little_memory() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = start(&backend, &secure);
    assert_eq!(secure.connect(ballast.address()).get("/").status, 200);
    let before = resident(ballast.pid());
    let mut bomb = fields(&[]);
    // This index refers only to what the first stream put into the decoder's table.
    bomb.extend([0x80 | 62; 1_900]);
    let mut first = fields(&[]);
    first.extend([0x40, 1, b'a', 0]);
    let mut heads = frame(HEADERS, END_HEADERS | END_STREAM, 1, &first);
    for number in 1..100 {
        heads.extend(frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            2 * number + 1,
            &bomb,
        ));
    }
    let mut connections = Vec::new();
    for _ in 0..10 {
        let mut raw = secure.raw(ballast.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
        raw.send(&heads).expect("sent");
        connections.push(raw);
    }
    let sent = 10 * heads.len() as u64;
    let mut most = 0;
    let begin = Instant::now();
    while begin.elapsed() < HEAD {
        most = most.max(resident(ballast.pid()).saturating_sub(before));
    }
    println!("{sent} bytes use {most}");
    assert!(most < 10 * sent, "{sent} bytes use {most}");
    assert_eq!(secure.connect(ballast.address()).get("/").status, 200);
}
