//! Random exchanges: well-formed but unusual requests, and the responses of the host.

use std::fmt;

use rand::Rng;
use rand::rngs::SmallRng;

use super::responses;
use crate::corpus::origin::Plan;
use crate::corpus::wire::find;

/// What a client sends on one connection, and what the host does with it.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The writes, one after the other.
    pub(super) pieces: Vec<Vec<u8>>,
    /// What the host does with each request, by the number of the request.
    pub(super) plans: Vec<(u64, Plan)>,
    /// Whether the first request is HEAD.
    pub(super) to_head: bool,
    /// Whether Host differs from the authority of an absolute target.
    pub(super) two_authorities: bool,
}

const METHODS: [&str; 16] = [
    "GET", "GET", "GET", "HEAD", "TRACE", "GET", "POST", "PUT", "HEAD", "POST", "POST", "PUT",
    "DELETE", "PATCH", "OPTIONS", "BREW",
];

const TARGETS: [&str; 20] = [
    "/",
    "/a/b?c=d&e=f",
    "/?",
    "/a//b",
    "/a/./b/../c",
    "//double/slash",
    "/a%2fb%2Fc",
    "/%7euser/%41",
    "/a;b=c,d",
    "/a?b?c/d",
    "/a?x=[1]|2",
    "/a?b=%",
    "/!$&'()*+,;=:@",
    "/a?<>\"",
    "/{x}^`\\",
    "/\u{e9}",
    "http://probe.example/abs?x=1",
    "http://probe.example",
    "HTTP://Other.Example:80/x",
    "http://other.example?q",
];

const HOSTS: [&str; 5] = [
    "probe.example",
    "Probe.Example",
    "probe.example:80",
    "[::1]:8080",
    "127.0.0.1",
];

/// Whole field lines. The case of names and the white space around values are changed at random.
const FIELDS: [(&str, &str); 48] = [
    ("Accept", "*/*"),
    ("Accept", "text/html;q=0.5, text/plain"),
    ("Accept-Encoding", "gzip, br"),
    ("Accept-Language", ""),
    ("Authorization", "Basic eDp5"),
    ("Cache-Control", "no-cache"),
    ("Content-Type", "text/plain; charset=\"utf-8\""),
    ("Cookie", "a=b"),
    ("Cookie", "c=\"d\"; e=f"),
    ("Cookie", "at=nothing; x=y"),
    ("Forwarded", "for=192.0.2.1;proto=https"),
    ("Forwarded", "for=\"[2001:db8::1]:80\";host=x, for=unknown"),
    ("From", "x@y.example"),
    ("If-None-Match", "\"a\", W/\"b\""),
    ("Keep-Alive", "timeout=5"),
    ("Max-Forwards", "0"),
    ("Max-Forwards", "7"),
    ("Origin", "null"),
    ("Pragma", "no-cache"),
    ("Proxy-Authorization", "Basic eDp5"),
    ("Proxy-Connection", "keep-alive"),
    ("Range", "bytes=0-1"),
    ("Referer", "http://x.example/?a=b"),
    ("TE", "trailers"),
    ("TE", "trailers, deflate;q=0.5"),
    ("Trailer", "X-Sum"),
    ("Upgrade", "h2c"),
    ("User-Agent", "odd/1.0 (x; y)"),
    ("Via", "1.0 fred, 1.1 p.example"),
    ("X-Empty", ""),
    ("X-Forwarded-For", "192.0.2.7"),
    ("X-Forwarded-For", "192.0.2.7, 10.0.0.1"),
    ("X-Forwarded-Host", "x.example"),
    ("X-Forwarded-Port", "444"),
    ("X-Forwarded-Proto", "https"),
    ("X-Named", "1"),
    ("X-Named", "2"),
    ("X-Odd", "caf\u{e9} \u{ff}"),
    ("X-Odd", "a  b\tc"),
    ("X-Real-IP", "192.0.2.8"),
    ("X-Client-IP", "192.0.2.8"),
    ("True-Client-IP", "192.0.2.8"),
    ("X_Under_Score", "1"),
    ("X_Real_IP", "192.0.2.8"),
    ("X-Request-Id", "abc-123"),
    ("X-Request-Id", "odd id, \"quoted\""),
    (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
    ("tracestate", "a=b,c=d"),
];

const CONNECTIONS: [&str; 9] = [
    "close",
    "keep-alive",
    "Keep-Alive",
    "close, X-Named",
    "keep-alive, x-named",
    "X-NAMED",
    "TE",
    "upgrade",
    "x-odd , , cookie",
];

pub(super) fn chance(random: &mut SmallRng, percent: u32) -> bool {
    random.gen_range(0..100) < percent
}

pub(super) fn one_of<T: Copy>(random: &mut SmallRng, all: &[T]) -> T {
    all[random.gen_range(0..all.len())]
}

/// Each character is a byte.
pub(super) fn latin(text: &str) -> impl Iterator<Item = u8> + '_ {
    text.chars().map(|c| c as u8)
}

impl Exchange {
    /// Whether the bytes that are sent contain this, ignoring case.
    pub(super) fn contains(&self, text: &str) -> bool {
        let sent = self.pieces.concat().to_ascii_lowercase();
        find(&sent, text.to_ascii_lowercase().as_bytes()).is_some()
    }
}

/// One request, or two at once, with the numbers `number` and `number` + 1.
pub(super) fn exchange(random: &mut SmallRng, number: u64) -> Exchange {
    let mut exchange = Exchange::default();
    let mut bytes = Vec::new();
    let pair = chance(random, 15);
    for number in number..=number + u64::from(pair) {
        let is_first = exchange.plans.is_empty();
        let mut method = one_of(random, &METHODS);
        if method == "HEAD" && !is_first {
            method = "GET";
        }
        exchange.to_head |= method == "HEAD";
        let two = &mut exchange.two_authorities;
        bytes.extend(request(random, method, number, two));
        let plan = responses::plan(random, method == "HEAD", pair);
        exchange.plans.push((number, plan));
    }
    exchange.pieces = split(random, bytes);
    exchange
}

/// The same bytes in a few pieces.
pub(super) fn split(random: &mut SmallRng, mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while bytes.len() > 1 && pieces.len() < 4 && chance(random, 30) {
        let rest = bytes.split_off(random.gen_range(1..bytes.len()));
        pieces.push(std::mem::replace(&mut bytes, rest));
    }
    pieces.push(bytes);
    pieces
}

/// Appends a field line, sometimes with unusual white space and case.
pub(super) fn field(random: &mut SmallRng, out: &mut Vec<u8>, name: &str, value: &str) {
    let name = match random.gen_range(0..8) {
        0 => name.to_ascii_uppercase(),
        1 => name.to_ascii_lowercase(),
        _ => name.to_owned(),
    };
    let before = one_of(random, &[" ", " ", " ", "", "\t", "  \t "]);
    let after = one_of(random, &["", "", "", " ", "\t "]);
    out.extend(latin(&format!("{name}:{before}{value}{after}\r\n")));
}

fn request(
    random: &mut SmallRng,
    method: &str,
    number: u64,
    two_authorities: &mut bool,
) -> Vec<u8> {
    let old = chance(random, 20);
    let target = match method {
        "OPTIONS" if chance(random, 30) => "*",
        _ => one_of(random, &TARGETS),
    };
    let version = if old { "HTTP/1.0" } else { "HTTP/1.1" };
    let ahead = one_of(random, &["", "", "", "", "", "", "", "\r\n"]);
    let mut out: Vec<u8> = latin(&format!("{ahead}{method} {target} {version}\r\n")).collect();
    if !old || chance(random, 70) {
        let absolute = target.split_once("://").map(|(_, rest)| rest);
        let authority = absolute.and_then(|rest| rest.split(['/', '?']).next());
        let host = match authority {
            Some(authority) if !chance(random, 10) => authority,
            _ => one_of(random, &HOSTS),
        };
        *two_authorities |= authority.is_some_and(|authority| authority != host);
        field(random, &mut out, "Host", host);
    }
    let count = match random.gen_range(0..4) {
        0 => 0,
        1 => random.gen_range(0..20),
        _ => random.gen_range(0..6),
    };
    for _ in 0..count {
        let (name, value) = one_of(random, &FIELDS);
        field(random, &mut out, name, value);
    }
    let times = one_of(random, &[0, 0, 0, 1, 1, 2]);
    for _ in 0..times {
        let options = one_of(random, &CONNECTIONS);
        field(random, &mut out, "Connection", options);
    }
    out.extend(format!("X-Exchange: {number}\r\n").bytes());
    let with_body = match method {
        "POST" | "PUT" | "PATCH" => chance(random, 90),
        "DELETE" | "BREW" | "OPTIONS" => chance(random, 30),
        _ => chance(random, 5),
    };
    if !with_body {
        out.extend(b"\r\n");
        return out;
    }
    let size = one_of(random, &[0, 1, 5, 100, 100, 5000, 5000, 150_000]);
    let data: Vec<u8> = (0..size).map(|_| random.gen_range(b'a'..=b'z')).collect();
    if size > 0 && !old && chance(random, 10) {
        field(random, &mut out, "Expect", "100-continue");
    }
    if !old && chance(random, 50) {
        field(random, &mut out, "Transfer-Encoding", "chunked");
        out.extend(b"\r\n");
        out.extend(chunked(random, &data));
    } else {
        let length = size.to_string();
        let lengths = match random.gen_range(0..40) {
            0 => vec![format!("{length}, {length}")],
            1 => vec![length.clone(), length],
            _ => vec![length],
        };
        for length in lengths {
            field(random, &mut out, "Content-Length", &length);
        }
        out.extend(b"\r\n");
        out.extend(&data);
    }
    out
}

/// A chunked body with random chunk sizes, and with the extensions and trailers that are allowed.
pub(super) fn chunked(random: &mut SmallRng, mut data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !data.is_empty() {
        let (chunk, rest) = data.split_at(random.gen_range(1..=data.len()));
        let extension = one_of(random, &["", "", "", ";a", ";a=b", " ; q=\"x\\\"y\""]);
        let line = match random.gen_range(0..3) {
            0 => format!("{:x}{extension}\r\n", chunk.len()),
            1 => format!("{:X}{extension}\r\n", chunk.len()),
            _ => format!("{:05x}{extension}\r\n", chunk.len()),
        };
        out.extend(line.bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
        data = rest;
    }
    out.extend(one_of(random, &["0\r\n", "000\r\n", "0;last\r\n"]).bytes());
    if chance(random, 20) {
        out.extend(b"X-Sum: 1\r\nx-sum:2\r\n");
    }
    out.extend(b"\r\n");
    out
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |pieces: &[Vec<u8>]| {
            let pieces = pieces.iter().map(|piece| piece.escape_ascii().to_string());
            Vec::from_iter(pieces).join(" + ")
        };
        writeln!(f, "  sent: {}", shown(&self.pieces))?;
        for (number, plan) in &self.plans {
            let response = shown(&plan.pieces);
            let Plan { early, close, .. } = plan;
            writeln!(f, "  {number}: {response} (early {early}, close {close})")?;
        }
        Ok(())
    }
}
