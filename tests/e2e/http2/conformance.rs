//! Each rule of RFC 9113 and RFC 7541 for what a client sends, in the order and by the sections of the tool h2spec.

use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM,
    RawHttp2, SETTINGS, Secure, WINDOW_UPDATE, fields, frame,
};
use crate::support::{Backend, Ballast, LISTEN, Reply, SOON, Setup};

const PUSH_PROMISE: u8 = 5;
const UNKNOWN: u8 = 0x16;

const ACK: u8 = 1;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;
const WHOLE: u8 = END_HEADERS | END_STREAM;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// What comes of the frames of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The connection goes on: it answers a ping, and stream 1 is not reset.
    Continues,
    /// Stream 1, or the connection, ends for this reason.
    Stream(u32),
    /// The connection ends for this reason.
    Connection(u32),
}
use Outcome::{Connection, Continues, Stream};

fn listening() -> (Backend, Ballast) {
    let backend = Backend::start_new("a");
    let listeners = format!("listeners: [{{ address: \"{LISTEN}\", http2: cleartext }}]");
    let ballast = Setup::of(&[&backend]).top(&listeners).start();
    (backend, ballast)
}

/// What the listener makes of `frames` on a connection of its own.
fn outcome(ballast: &Ballast, frames: &[Vec<u8>]) -> Outcome {
    let ping = |number: u8| frame(PING, 0, 0, &[number; 8]);
    let mut raw = RawHttp2::plain(ballast.address(), &[]);
    // The listener may close before it has read all.
    let _ = raw.send(&[frames.concat(), ping(1)].concat());
    let mut reset = None;
    while let Some(next) = raw.next(SOON) {
        match (next.kind, next.flags, &*next.payload) {
            (GOAWAY, ..) => return Connection(next.reason()),
            (RST_STREAM, ..) if next.stream == 1 => reset = reset.or(Some(next.reason())),
            // The answer to a ping overtakes a reset.
            (PING, ACK, [1, ..]) => raw.send(&ping(2)).expect("sent"),
            (PING, ACK, [2, ..]) => return reset.map_or(Continues, Stream),
            _ => {}
        }
    }
    panic!("the connection ends without a reason");
}

/// Asserts the outcome of each case. A connection may end where a stream would do, RFC 9113 5.4.1, and the reason may be
/// PROTOCOL_ERROR where there is a special one, RFC 9113 5.4.
#[track_caller]
fn assert_all(cases: &[(&str, Outcome, &[Vec<u8>])]) {
    let (_backend, ballast) = listening();
    let wrong = cases.iter().filter_map(|(rule, expected, frames)| {
        let got = outcome(&ballast, frames);
        let is_permitted = match (*expected, got) {
            (Stream(expected) | Connection(expected), Connection(got)) => {
                got == expected || got == PROTOCOL_ERROR
            }
            (expected, got) => expected == got,
        };
        (!is_permitted).then_some((*rule, got))
    });
    assert_eq!(Vec::from_iter(wrong), []);
    assert!(ballast.log_with(&["panicked"]).is_empty());
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &fields(&[]))
}

/// The head of a request whose body follows.
fn post() -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &post_fields(&[]))
}

fn post_fields(further: &[(&str, &str)]) -> Vec<u8> {
    let mut block = fields(further);
    block[0] = 0x83;
    block
}

fn data(flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, 1, payload)
}

/// A whole request with these bytes as its block.
fn block(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, WHOLE, 1, block)
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    let payload = [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &payload)
}

fn number(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

#[test]
fn section_3_and_4_connections_and_frames() {
    let too_large = vec![0; 16_385];
    let reserved = [&[0x80][..], &[0; 3]].concat();
    let mut ping_of_reserved_bit = frame(PING, 0, 0, &[0; 8]);
    ping_of_reserved_bit[5..9].copy_from_slice(&reserved);
    assert_all(&[
        (
            "4.1 unknown type",
            Continues,
            &[frame(UNKNOWN, 0, 0, &[0; 8])],
        ),
        (
            "4.1 undefined flags",
            Continues,
            &[frame(PING, 0x16, 0, &[0; 8])],
        ),
        ("4.1 reserved bit", Continues, &[ping_of_reserved_bit]),
        (
            "4.2 largest frame",
            Continues,
            &[post(), data(END_STREAM, &too_large[1..])],
        ),
        (
            "4.2 large DATA",
            Stream(FRAME_SIZE_ERROR),
            &[post(), data(0, &too_large)],
        ),
        (
            "4.2 large HEADERS",
            Connection(FRAME_SIZE_ERROR),
            &[block(&too_large)],
        ),
        (
            "4.3 invalid block",
            Connection(COMPRESSION_ERROR),
            &[block(&[0x40])],
        ),
        (
            "4.3 PRIORITY in a block",
            Connection(PROTOCOL_ERROR),
            &[
                frame(HEADERS, END_STREAM, 1, &fields(&[])),
                frame(PRIORITY, 0, 3, &[0; 5]),
            ],
        ),
        (
            "4.3 another stream in a block",
            Connection(PROTOCOL_ERROR),
            &[frame(HEADERS, END_STREAM, 1, &fields(&[])), get(3)],
        ),
    ]);
    let (backend, secure) = (Backend::start_new("a"), Secure::new());
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut raw = secure.silent(ballast.address());
    raw.send(b"INVALID CONNECTION PREFACE\r\n\r\n")
        .expect("sent");
    assert!(raw.ends_within(SOON), "3.4 a wrong preface");
}

#[test]
fn section_5_streams() {
    let cancel = || frame(RST_STREAM, 0, 1, &number(8));
    let on_itself =
        |kind, flags, rest: &[u8]| frame(kind, flags, 1, &[&[0, 0, 0, 1, 10][..], rest].concat());
    let continuation = || frame(CONTINUATION, END_HEADERS, 1, &fields(&[]));
    assert_all(&[
        (
            "5.1 idle: DATA",
            Connection(PROTOCOL_ERROR),
            &[data(END_STREAM, b"x")],
        ),
        (
            "5.1 idle: RST_STREAM",
            Connection(PROTOCOL_ERROR),
            &[cancel()],
        ),
        (
            "5.1 idle: WINDOW_UPDATE",
            Connection(PROTOCOL_ERROR),
            &[frame(WINDOW_UPDATE, 0, 1, &number(100))],
        ),
        (
            "5.1 idle: CONTINUATION",
            Connection(PROTOCOL_ERROR),
            &[continuation()],
        ),
        (
            "5.1 half-closed: DATA",
            Stream(STREAM_CLOSED),
            &[get(1), data(END_STREAM, b"x")],
        ),
        (
            "5.1 half-closed: HEADERS",
            Stream(STREAM_CLOSED),
            &[get(1), get(1)],
        ),
        (
            "5.1 half-closed: CONTINUATION",
            Connection(PROTOCOL_ERROR),
            &[get(1), continuation()],
        ),
        (
            "5.1 reset: CONTINUATION",
            Connection(PROTOCOL_ERROR),
            &[post(), cancel(), continuation()],
        ),
        ("5.1.1 even number", Connection(PROTOCOL_ERROR), &[get(2)]),
        (
            "5.1.1 smaller number",
            Connection(STREAM_CLOSED),
            &[get(5), get(3)],
        ),
        (
            "5.3.1 HEADERS on itself",
            Stream(PROTOCOL_ERROR),
            &[on_itself(HEADERS, WHOLE | WITH_PRIORITY, &fields(&[]))],
        ),
        (
            "5.3.1 PRIORITY on itself",
            Stream(PROTOCOL_ERROR),
            &[on_itself(PRIORITY, 0, &[])],
        ),
        (
            "5.5 unknown frame in a block",
            Connection(PROTOCOL_ERROR),
            &[
                frame(HEADERS, END_STREAM, 1, &fields(&[])),
                frame(UNKNOWN, 0, 0, &[0; 8]),
            ],
        ),
    ]);
}

#[test]
fn section_6_frames() {
    let max_window = number((1 << 31) - 1);
    let window = |stream, increment: u32| frame(WINDOW_UPDATE, 0, stream, &number(increment));
    let padded = |kind, flags, payload: &[u8]| frame(kind, flags | PADDED, 1, payload);
    assert_all(&[
        (
            "6.1 DATA on stream 0",
            Connection(PROTOCOL_ERROR),
            &[frame(DATA, END_STREAM, 0, b"x")],
        ),
        (
            "6.1 padding of DATA",
            Connection(PROTOCOL_ERROR),
            &[post(), padded(DATA, END_STREAM, &[6, 0, 0, 0, 0])],
        ),
        (
            "6.2 HEADERS on stream 0",
            Connection(PROTOCOL_ERROR),
            &[get(0)],
        ),
        (
            "6.2 padding of HEADERS",
            Connection(PROTOCOL_ERROR),
            &[padded(HEADERS, WHOLE, &[9, 0x82, 0x84])],
        ),
        (
            "6.3 PRIORITY on stream 0",
            Connection(PROTOCOL_ERROR),
            &[frame(PRIORITY, 0, 0, &[0, 0, 0, 3, 1])],
        ),
        (
            "6.3 length of PRIORITY",
            Stream(FRAME_SIZE_ERROR),
            &[frame(PRIORITY, 0, 1, &[0; 4])],
        ),
        (
            "6.4 RST_STREAM on stream 0",
            Connection(PROTOCOL_ERROR),
            &[frame(RST_STREAM, 0, 0, &number(8))],
        ),
        (
            "6.4 length of RST_STREAM",
            Connection(FRAME_SIZE_ERROR),
            &[post(), frame(RST_STREAM, 0, 1, &[0; 3])],
        ),
        (
            "6.5 acknowledgement with settings",
            Connection(FRAME_SIZE_ERROR),
            &[frame(SETTINGS, ACK, 0, &[0; 6])],
        ),
        (
            "6.5 SETTINGS on a stream",
            Connection(PROTOCOL_ERROR),
            &[frame(SETTINGS, 0, 1, &[])],
        ),
        (
            "6.5 length of SETTINGS",
            Connection(FRAME_SIZE_ERROR),
            &[frame(SETTINGS, 0, 0, &[0; 3])],
        ),
        (
            "6.5.2 ENABLE_PUSH",
            Connection(PROTOCOL_ERROR),
            &[setting(2, 2)],
        ),
        (
            "6.5.2 INITIAL_WINDOW_SIZE",
            Connection(FLOW_CONTROL_ERROR),
            &[setting(4, 1 << 31)],
        ),
        (
            "6.5.2 small MAX_FRAME_SIZE",
            Connection(PROTOCOL_ERROR),
            &[setting(5, 16_383)],
        ),
        (
            "6.5.2 large MAX_FRAME_SIZE",
            Connection(PROTOCOL_ERROR),
            &[setting(5, 1 << 24)],
        ),
        ("6.5.2 unknown setting", Continues, &[setting(0xff, 1)]),
        (
            "6.7 acknowledgement of a ping",
            Continues,
            &[frame(PING, ACK, 0, b"not ours")],
        ),
        (
            "6.7 PING on a stream",
            Connection(PROTOCOL_ERROR),
            &[frame(PING, 0, 1, &[0; 8])],
        ),
        (
            "6.7 length of PING",
            Connection(FRAME_SIZE_ERROR),
            &[frame(PING, 0, 0, &[0; 6])],
        ),
        (
            "6.8 GOAWAY on a stream",
            Connection(PROTOCOL_ERROR),
            &[frame(GOAWAY, 0, 1, &[0; 8])],
        ),
        (
            "6.9 increment 0",
            Connection(PROTOCOL_ERROR),
            &[window(0, 0)],
        ),
        (
            "6.9 increment 0 of a stream",
            Stream(PROTOCOL_ERROR),
            &[post(), window(1, 0)],
        ),
        (
            "6.9 length of WINDOW_UPDATE",
            Connection(FRAME_SIZE_ERROR),
            &[frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
        ),
        (
            "6.9.1 large window",
            Connection(FLOW_CONTROL_ERROR),
            &[frame(WINDOW_UPDATE, 0, 0, &max_window), window(0, 1)],
        ),
        (
            "6.9.1 large window of a stream",
            Stream(FLOW_CONTROL_ERROR),
            &[
                post(),
                frame(WINDOW_UPDATE, 0, 1, &max_window),
                window(1, 1),
            ],
        ),
        (
            "6.10 many parts of a block",
            Continues,
            &[
                frame(HEADERS, END_STREAM, 1, &fields(&[])),
                frame(CONTINUATION, 0, 1, b"\0\x01a\x01b"),
                frame(CONTINUATION, END_HEADERS, 1, b"\0\x01c\x01d"),
            ],
        ),
        (
            "6.10 DATA in a block",
            Connection(PROTOCOL_ERROR),
            &[
                frame(HEADERS, 0, 1, &post_fields(&[])),
                frame(CONTINUATION, 0, 1, b"\0\x01a\x01b"),
                data(END_STREAM, b"x"),
            ],
        ),
        (
            "6.10 CONTINUATION on stream 0",
            Connection(PROTOCOL_ERROR),
            &[
                frame(HEADERS, END_STREAM, 1, &fields(&[])),
                frame(CONTINUATION, END_HEADERS, 0, b"\0\x01a\x01b"),
            ],
        ),
        (
            "6.10 CONTINUATION after a block",
            Connection(PROTOCOL_ERROR),
            &[post(), frame(CONTINUATION, END_HEADERS, 1, b"\0\x01a\x01b")],
        ),
        (
            "7 unknown reason",
            Continues,
            &[post(), frame(RST_STREAM, 0, 1, &number(0xff))],
        ),
    ]);
}

#[test]
fn section_6_9_windows_limit_the_response() {
    let (backend, ballast) = listening();
    backend.set(Reply::ok().body("12345"));
    let mut raw = RawHttp2::plain(ballast.address(), &[(4, 1)]);
    raw.send(&get(1)).expect("sent");
    assert_eq!(raw.wait_for(DATA).payload, b"1");
    // The window may become negative, and grows by the difference of the settings.
    raw.send(&setting(4, 0)).expect("sent");
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &number(2)))
        .expect("sent");
    assert_eq!(raw.wait_for(DATA).payload, b"2");
    raw.send(&setting(4, 100)).expect("sent");
    assert_eq!(raw.wait_for(DATA).payload, b"345");
}

#[test]
fn section_8_messages() {
    const AUTHORITY: &[u8] = b"\x01\x04test";
    let raw_field = |name: &str, value: &str| {
        let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    let with = |further: &[(&str, &str)]| block(&fields(further));
    let after = |more: Vec<u8>| block(&[fields(&[]), more].concat());
    let of = |parts: &[u8]| block(&[parts, AUTHORITY].concat());
    let malformed = Stream(PROTOCOL_ERROR);
    assert_all(&[
        (
            "8.1 HEADERS without an end",
            malformed,
            &[post(), frame(HEADERS, END_HEADERS, 1, b"\0\x01a\x01b")],
        ),
        (
            "8.2.1 uppercase",
            malformed,
            &[after(raw_field("X-Test", "ok"))],
        ),
        (
            "8.2.2 connection",
            malformed,
            &[with(&[("connection", "keep-alive")])],
        ),
        (
            "8.2.2 TE",
            malformed,
            &[with(&[("trailers", "test"), ("te", "trailers, deflate")])],
        ),
        (
            "8.3 unknown pseudo-header field",
            malformed,
            &[after(raw_field(":test", "ok"))],
        ),
        (
            "8.3 :status in a request",
            malformed,
            &[block(&[&fields(&[])[..], b"\x88"].concat())],
        ),
        (
            "8.3 in trailers",
            malformed,
            &[post(), frame(HEADERS, WHOLE, 1, b"\x82")],
        ),
        (
            "8.3 after a field",
            malformed,
            &[block(&[b"\0\x01a\x01b", &fields(&[])[..]].concat())],
        ),
        ("8.3.1 empty :path", malformed, &[of(b"\x82\x87\x04\0")]),
        ("8.3.1 no :method", malformed, &[of(b"\x87\x84")]),
        ("8.3.1 no :scheme", malformed, &[of(b"\x82\x84")]),
        ("8.3.1 no :path", malformed, &[of(b"\x82\x87")]),
        (
            "8.3.1 two of :method",
            malformed,
            &[of(b"\x82\x82\x87\x84")],
        ),
        (
            "8.3.1 two of :scheme",
            malformed,
            &[of(b"\x82\x87\x87\x84")],
        ),
        ("8.3.1 two of :path", malformed, &[of(b"\x82\x87\x84\x84")]),
        (
            "8.1.1 length of one DATA",
            malformed,
            &[
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &post_fields(&[("content-length", "1")]),
                ),
                data(END_STREAM, b"test"),
            ],
        ),
        (
            "8.1.1 length of several DATA",
            malformed,
            &[
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &post_fields(&[("content-length", "1")]),
                ),
                data(0, b"te"),
                data(END_STREAM, b"st"),
            ],
        ),
        (
            "8.4 PUSH_PROMISE",
            Connection(PROTOCOL_ERROR),
            &[frame(
                PUSH_PROMISE,
                END_HEADERS,
                1,
                &[&number(2)[..], &fields(&[])].concat(),
            )],
        ),
        (
            "8.5 CONNECT with a path",
            malformed,
            &[of(b"\x02\x07CONNECT\x87\x84")],
        ),
    ]);
}

#[test]
fn section_hpack() {
    let after = |more: &[u8]| block(&[&fields(&[])[..], more].concat());
    let bad = Connection(COMPRESSION_ERROR);
    assert_all(&[
        ("2.3.3 index", bad, &[after(b"\xc6")]),
        ("2.3.3 index of a name", bad, &[after(b"\x7f\x46\x01a")]),
        ("4.2 size update at the end", bad, &[after(b"\x20")]),
        (
            "5.2 padding of more than 7 bits",
            bad,
            &[after(b"\0\x01a\x82\x1f\xff")],
        ),
        ("5.2 padding of zeros", bad, &[after(b"\0\x01a\x81\x18")]),
        ("5.2 EOS", bad, &[after(b"\0\x01a\x84\xff\xff\xff\xff")]),
        ("6.1 index 0", bad, &[after(b"\x80")]),
        (
            "6.3 large size update",
            bad,
            &[block(&[b"\x3f\xe2\x1f", &fields(&[])[..]].concat())],
        ),
    ]);
}
