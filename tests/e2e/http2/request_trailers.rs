//! Trailers that clients send after the body of a request.

use bytes::Bytes;
use http::HeaderMap;

use crate::support::http2::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PROTOCOL_ERROR, RST_STREAM, Secure, fields, frame,
    request,
};
use crate::support::{Backend, SOON, Setup, wait_until};

#[test]
fn trailers_end_the_body_and_are_not_passed_on() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut client = secure.connect(ballast.address());
    for _ in 0..2 {
        let (response, mut body) = client.open(request("POST", "/"), false).expect("a stream");
        body.send_data(Bytes::from_static(b"body"), false)
            .expect("sent");
        let trailers = HeaderMap::from_iter([(
            "x-sum".parse().expect("a name"),
            "1".parse().expect("a value"),
        )]);
        body.send_trailers(trailers).expect("sent");
        let response = client.wait_for_response(response).expect("a response");
        assert_eq!(response.status, 200);
        assert_eq!(backend.last().body, b"body");
        assert_eq!(backend.last().head.get("x-sum"), None);
    }
    assert_eq!(backend.connections(), 1, "the host's connection is reused");
}

#[test]
fn pseudo_header_fields_in_trailers_reset_the_stream() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut raw = secure.raw(ballast.address(), &[]);
    let mut head = fields(&[]);
    head[0] = 0x83;
    let field: &[u8] = b"\x00\x01a\x01b";
    // `:path /`, `:authority a`, `:status 200`, and one by its name.
    for (index, pseudo) in [
        &b"\x84"[..],
        b"\x01\x01a",
        b"\x88",
        b"\x00\x07:method\x03GET",
    ]
    .into_iter()
    .enumerate()
    {
        let stream = 4 * index as u32 + 1;
        let trailers = [field, pseudo].concat();
        let frames = [
            frame(HEADERS, END_HEADERS, stream, &head),
            frame(DATA, 0, stream, b"body"),
            frame(HEADERS, END_HEADERS | END_STREAM, stream, &trailers),
            // Another stream goes on.
            frame(HEADERS, END_HEADERS | END_STREAM, stream + 2, &fields(&[])),
        ];
        raw.send(&frames.concat()).expect("sent");
        let (mut reset, mut other) = (None, None);
        while reset.is_none() || other.is_none() {
            let next = raw.next(SOON).expect("a frame");
            match (next.stream, next.kind) {
                (of, RST_STREAM) if of == stream => reset = Some(next.reason()),
                (of, HEADERS) if of == stream + 2 => other = Some(next.payload[0]),
                (of, HEADERS) if of == stream => panic!("a response to {pseudo:?}"),
                _ => {}
            }
        }
        assert_eq!((reset, other), (Some(PROTOCOL_ERROR), Some(0x88)));
    }
    wait_until(SOON, "no request remains at the host", || {
        backend.open_connections() <= 1
    });
    assert_eq!(backend.unanswered(), 0, "no request is complete");
}
