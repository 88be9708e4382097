//! Random responses.

use rand::Rng;
use rand::rngs::SmallRng;

use super::generate::{chance, chunked, field, latin, one_of, split};
use crate::corpus::origin::Plan;

const STATUSES: [u16; 16] = [
    200, 200, 200, 200, 201, 204, 206, 301, 304, 400, 404, 418, 500, 502, 503, 599,
];

const REASONS: [&str; 5] = [
    "OK",
    "",
    "Not What You Think; (really)",
    "ok  ok",
    "\u{e9}t\u{e9}",
];

const FIELDS: [(&str, &str); 20] = [
    ("Alt-Svc", "h3=\":443\""),
    ("Cache-Control", "no-store"),
    ("Content-Type", "text/html"),
    ("Date", "Tue, 15 Nov 1994 08:12:31 GMT"),
    ("ETag", "\"x\""),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Authenticate", "Basic realm=\"x\""),
    ("Proxy-Connection", "keep-alive"),
    ("Server", "odd/1.0"),
    ("Set-Cookie", "a=b; Path=/"),
    ("Set-Cookie", "c=d, e"),
    ("Trailer", "X-Sum"),
    ("Upgrade", "h2c"),
    ("Vary", "*"),
    ("Via", "1.1 origin"),
    ("X-Empty", ""),
    ("X-Named", "1"),
    ("X-Odd", "\u{e9} a  b\tc"),
    ("X_Under_Score", "1"),
    ("X-Request-Id", "the-host-s"),
];

const CONNECTIONS: [&str; 6] = [
    "keep-alive",
    "X-Named",
    "keep-alive, x-named",
    "upgrade",
    "close",
    "close, X-Named",
];

/// How the host ends a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Length,
    Chunked,
    Close,
}

/// What the host does. For a pair of requests the host always keeps the connection, so that the second request cannot
/// meet its end.
pub(super) fn plan(random: &mut SmallRng, to_head: bool, of_pair: bool) -> Plan {
    let mut out = Vec::new();
    if chance(random, 12) {
        for _ in 0..random.gen_range(1..4) {
            out.extend(interim(random));
        }
    }
    let status = one_of(random, &STATUSES);
    let old = chance(random, 12) && !of_pair;
    let reason = one_of(random, &REASONS);
    let version = if old { "HTTP/1.0" } else { "HTTP/1.1" };
    out.extend(latin(&format!("{version} {status} {reason}\r\n")));
    for _ in 0..random.gen_range(0..6) {
        let (name, value) = one_of(random, &FIELDS);
        field(random, &mut out, name, value);
    }
    let options = chance(random, 25).then(|| one_of(random, &CONNECTIONS));
    let options = options.filter(|options| !(of_pair && options.contains("close")));
    if let Some(options) = options {
        field(random, &mut out, "Connection", options);
    }
    let says = |option: &str| options.is_some_and(|options| options.contains(option));
    let ended = match random.gen_range(0..10) {
        0 if !of_pair => Ended::Close,
        1..=4 if !old => Ended::Chunked,
        _ => Ended::Length,
    };
    let size = one_of(random, &[0, 1, 12, 300, 300, 20_000, 200_000]);
    let data: Vec<u8> = (0..size).map(|_| random.gen_range(b'a'..=b'z')).collect();
    let bodiless = matches!(status, 204 | 304);
    match ended {
        _ if status == 204 => {}
        Ended::Length => field(random, &mut out, "Content-Length", &size.to_string()),
        Ended::Chunked => field(random, &mut out, "Transfer-Encoding", "chunked"),
        Ended::Close => {}
    }
    out.extend(b"\r\n");
    match ended {
        _ if bodiless || to_head => {}
        Ended::Chunked => out.extend(chunked(random, &data)),
        _ => out.extend(&data),
    }
    let needs_close = ended == Ended::Close || says("close") || (old && !says("keep-alive"));
    Plan {
        pieces: split(random, out),
        early: !of_pair && chance(random, 5),
        close: needs_close || (!of_pair && chance(random, 10)),
    }
}

fn interim(random: &mut SmallRng) -> Vec<u8> {
    let line = one_of(
        random,
        &[
            "HTTP/1.1 100 Continue",
            "HTTP/1.1 102 Processing",
            "HTTP/1.1 103 Early Hints",
            "HTTP/1.1 110 ",
        ],
    );
    let mut out = format!("{line}\r\n").into_bytes();
    for _ in 0..random.gen_range(0..3) {
        field(random, &mut out, "Link", "</x.css>; rel=preload");
    }
    out.extend(b"\r\n");
    out
}
