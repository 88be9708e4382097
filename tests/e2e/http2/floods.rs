//! Frames that advance no request: a flood of them ends the connection, and the rate that clients need is accepted.

use std::process::Command;
use std::time::Duration;

use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS,
    INITIAL_WINDOW_SIZE, PING, PRIORITY, RST_STREAM, RawHttp2, SETTINGS, Secure, WINDOW_UPDATE,
    fields, frame,
};
use crate::support::{Backend, Reply, SOON, Setup, finish, peer};

const TIMES: usize = 20_000;
const PRIORITY_UPDATE: u8 = 0x10;
const PADDED: u8 = 8;

/// Sends all bytes unless the connection ends. Returns whether it ended, and the reason if one came.
fn flood(raw: &mut RawHttp2, bytes: &[u8]) -> (bool, Option<u32>) {
    let mut reason = None;
    for piece in bytes.chunks(2_000) {
        let sent = raw.send(piece);
        while let Some(frame) = raw.next(Duration::from_millis(1)) {
            if frame.kind == GOAWAY {
                reason = Some(frame.reason());
            }
        }
        if sent.is_err() || reason.is_some() {
            break;
        }
    }
    (raw.ends_within(SOON), reason)
}

#[test]
fn floods_of_twenty_thousand_frames_end_the_connection() {
    let backend = Backend::start_new("a");
    backend.set(Reply::Hang);
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut open = fields(&[]);
    open[0] = 0x83;
    let open = frame(HEADERS, END_HEADERS, 1, &open);
    let none = vec![];
    for (what, start, flood_of) in [
        ("SETTINGS", &none, frame(SETTINGS, 0, 0, &[])),
        ("PING", &none, frame(PING, 0, 0, &[1; 8])),
        ("acknowledged PING", &none, frame(PING, 1, 0, &[1; 8])),
        ("PRIORITY", &none, frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 9])),
        (
            "PRIORITY_UPDATE",
            &none,
            frame(PRIORITY_UPDATE, 0, 0, &[0, 0, 0, 1, b'u']),
        ),
        (
            "WINDOW_UPDATE",
            &none,
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        ),
        (
            "of a stream",
            &open,
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        ),
        ("unknown", &none, frame(0xb0, 0, 0, b"")),
        ("empty DATA", &open, frame(DATA, 0, 1, b"")),
        ("padding", &open, frame(DATA, PADDED, 1, &[3, 0, 0, 0])),
        (
            "PING and WINDOW_UPDATE",
            &none,
            [
                frame(PING, 0, 0, &[1; 8]),
                frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            ]
            .concat(),
        ),
    ] {
        let mut raw = secure.raw(ballast.address(), &[]);
        raw.send(start).expect("sent");
        let (ended, reason) = flood(&mut raw, &flood_of.repeat(TIMES));
        assert!(ended, "{what}");
        if let Some(reason) = reason {
            assert_eq!(reason, ENHANCE_YOUR_CALM, "{what}");
        }
    }
    // These end the connection in any case, for differing reasons.
    for (what, start, flood_of) in [
        ("acknowledged SETTINGS", vec![], frame(SETTINGS, 1, 0, &[])),
        (
            "RST_STREAM",
            open.clone(),
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        ),
        ("GOAWAY", vec![], frame(GOAWAY, 0, 0, &[0; 8])),
        (
            "CONTINUATION",
            frame(HEADERS, END_STREAM, 1, &fields(&[])),
            frame(CONTINUATION, 0, 1, b""),
        ),
    ] {
        let mut raw = secure.raw(ballast.address(), &[]);
        raw.send(&start).expect("sent");
        let (ended, _) = flood(&mut raw, &flood_of.repeat(TIMES));
        assert!(ended, "{what}");
    }
    backend.set(Reply::ok());
    assert_eq!(secure.connect(ballast.address()).get("/").status, 200);
}

#[test]
fn ordinary_numbers_of_frames_pass() {
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend])
        .top(&secure.listeners())
        .top("limits: { max_requests_per_connection: 0 }")
        .start();
    // A ping, a priority and both windows with each of many requests.
    let mut raw = secure.raw(ballast.address(), &[]);
    for stream in (0..1_200).map(|number| 2 * number + 1) {
        raw.send(&frame(PING, 0, 0, &[1; 8])).expect("sent");
        raw.send(&frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 9]))
            .expect("sent");
        raw.get(stream, &[]);
        assert_eq!(raw.wait_for(HEADERS).stream, stream);
        for stream in [0, stream] {
            raw.send(&frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 2]))
                .expect("sent");
        }
    }
    // A large response through a window of 512 bytes, which the client reopens for each frame.
    let length = 4 << 20;
    backend.set(Reply::ok().body(vec![b'x'; length]));
    let mut raw = secure.raw(ballast.address(), &[(INITIAL_WINDOW_SIZE, 512)]);
    raw.get(1, &[]);
    let mut arrived = 0;
    while arrived < length {
        let data = raw.wait_for(DATA);
        let count = data.payload.len();
        arrived += count;
        let more = u32::try_from(count).expect("a small frame").to_be_bytes();
        let updates = [
            frame(WINDOW_UPDATE, 0, 0, &more),
            frame(WINDOW_UPDATE, 0, 1, &more),
        ];
        if count > 0 && raw.send(&updates.concat()).is_err() {
            break;
        }
    }
    assert_eq!(arrived, length);
    // An upload in small frames with many pings.
    backend.set(Reply::ok());
    let mut raw = secure.raw(ballast.address(), &[]);
    let mut open = fields(&[]);
    open[0] = 0x83;
    raw.send(&frame(HEADERS, END_HEADERS, 1, &open))
        .expect("sent");
    for _ in 0..200 {
        let mut frames = frame(DATA, 0, 1, &[b'x'; 300]);
        frames.extend(frame(PING, 0, 0, &[1; 8]).repeat(5));
        raw.send(&frames).expect("sent");
    }
    raw.send(&frame(DATA, END_STREAM, 1, b"")).expect("sent");
    assert_eq!(raw.wait_for(HEADERS).payload[0], 0x88);
    assert_eq!(backend.last().body.len(), 60_000);
}

#[test]
fn a_priority_tree_passes() {
    let Some(nghttp) = peer("nghttp") else { return };
    let backend = Backend::start_new("a");
    let secure = Secure::new();
    let ballast = Setup::of(&[&backend]).top(&secure.listeners()).start();
    let mut raw = secure.raw(ballast.address(), &[]);
    for stream in (0..50).map(|number| 2 * number + 1) {
        raw.send(&frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 9]))
            .expect("sent");
    }
    raw.get(101, &[]);
    assert_eq!(raw.wait_for(HEADERS).payload[0], 0x88);
    let mut command = Command::new(nghttp);
    command
        .args([
            "--verbose",
            "--no-verify-peer",
            "--multiply=50",
            "--weight=3",
        ])
        .arg(format!("https://{}/", ballast.address()));
    let end = finish(command);
    assert_eq!(
        end.stdout.matches(":status: 200").count(),
        50,
        "{}",
        end.stdout
    );
}
