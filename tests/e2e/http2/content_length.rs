//! Bodies whose length differs from the one in their head (RFC 9113 8.1.1).

use std::time::Duration;

use crate::support::http2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PROTOCOL_ERROR, RST_STREAM, Secure, fields, frame,
};
use crate::support::{Backend, SOON, Setup};

/// The fields of a POST with this content-length.
fn post(length: &str) -> Vec<u8> {
    let mut block = fields(&[("content-length", length)]);
    block[0] = 0x83;
    block
}

#[test]
fn a_body_with_content_length_0_is_checked_before_it_is_forwarded() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend])
        .top(&secure.listeners())
        .top("timeouts: { read: 2s }")
        .start();
    let mut raw = secure.raw(ballast.address(), &[]);
    for length in ["0", "00"] {
        let mut raw = secure.raw(ballast.address(), &[]);
        let open = frame(HEADERS, END_HEADERS, 1, &post(length));
        let full = frame(DATA, 0, 1, b"GET /admin HTTP/1.1\r\n\r\n");
        // Together, and one after the other.
        raw.send(&[open.clone(), full.clone()].concat())
            .expect("sent");
        let end = raw.wait_for(RST_STREAM);
        assert_eq!((end.stream, end.reason()), (1, PROTOCOL_ERROR));
        let open = frame(HEADERS, END_HEADERS, 3, &post(length));
        raw.send(&open).expect("sent");
        assert!(raw.find(HEADERS, Duration::from_millis(300)).is_none());
        raw.send(&frame(DATA, END_STREAM, 3, b"x")).expect("sent");
        let end = raw.wait_for(RST_STREAM);
        assert_eq!((end.stream, end.reason()), (3, PROTOCOL_ERROR));
    }
    assert_eq!(backend.requests(), 0);
    // The end of the stream comes in a DATA frame alone, after an empty DATA frame, as trailers, and with the head.
    let end = frame(DATA, END_STREAM, 1, b"");
    let nothing = frame(DATA, 0, 3, b"");
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 5, b"\x00\x01a\x01b");
    for (stream, ends) in [
        (1, end),
        (3, [nothing, frame(DATA, END_STREAM, 3, b"")].concat()),
        (5, trailers),
    ] {
        let open = frame(HEADERS, END_HEADERS, stream, &post("0"));
        raw.send(&open).expect("sent");
        let before = backend.requests();
        assert!(raw.find(HEADERS, Duration::from_millis(100)).is_none());
        assert_eq!(backend.requests(), before);
        raw.send(&ends).expect("sent");
        assert_eq!(raw.wait_for(HEADERS).payload[0], 0x88, "{stream}");
        assert_eq!(backend.last().head.all("content-length"), ["0"]);
    }
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 7, &post("0")))
        .expect("sent");
    assert_eq!(raw.wait_for(HEADERS).payload[0], 0x88);
    assert_eq!(backend.requests(), 4);
    // The wait for the end is bounded. 408 is not in the static table.
    raw.send(&frame(HEADERS, END_HEADERS, 9, &post("0")))
        .expect("sent");
    let late = raw.find(HEADERS, SOON).expect("a response");
    assert_eq!(late.stream, 9);
    assert_ne!(late.payload[0], 0x88);
    assert_eq!(backend.requests(), 4);
    assert!(ballast.log_with(&["ERROR"]).is_empty());
}

#[test]
fn a_head_that_ends_the_stream_may_not_declare_a_body() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut raw = secure.raw(ballast.address(), &[]);
    let head = frame(HEADERS, END_HEADERS | END_STREAM, 1, &post("5"));
    raw.send(&head).expect("sent");
    let end = raw.wait_for(RST_STREAM);
    assert_eq!((end.stream, end.reason()), (1, PROTOCOL_ERROR));
    assert_eq!(backend.requests(), 0);
}
