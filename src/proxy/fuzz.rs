//! Fuzzing of what is read from a request: target, hash key, client address and trace context.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use http::header::{COOKIE, HOST, HeaderName, HeaderValue};
use ipnet::IpNet;
use pingora::http::RequestHeader;
use pingora::http::authority::{RawTargetAuthority, raw_target_authority};

use super::forwarding::trace_context::{self, TraceSampling};
use super::forwarding::x_forwarded::{ClientOrigin, ConnectionInfo};
use super::request_target::RequestTarget;
use super::selection::hash_key::{self, DerivedKey};
use crate::balancer::Host;
use crate::config::{KeySource, Share};
use crate::fuzz;
use crate::message::FieldsView;
use crate::normalize;
use crate::pool::SelectionReason;
use crate::record::Attempt;

const FOR: &str = "x-forwarded-for";

/// Builds a request from a line with the target and lines `NAME: VALUE`. `None`: Pingora would have rejected it.
fn request<'a>(mut lines: impl Iterator<Item = &'a [u8]>) -> Option<RequestHeader> {
    let target = lines.next().unwrap_or(b"/");
    let mut request = RequestHeader::build("GET", target, None).ok()?;
    for line in lines {
        let end = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..end]).ok()?;
        let value = HeaderValue::from_bytes(line[end + 1..].trim_ascii()).ok()?;
        request.append_header(name, value).ok()?;
    }
    Some(request)
}

fn lines(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input.split(|byte| *byte == b'\n')
}

/// Whether `part` is a slice of `whole` and not a copy.
fn is_piece(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

/// Checks every key source. The first line is its name, the other lines are the request.
fn keys(input: &[u8]) {
    let mut lines = lines(input);
    let name = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let Some(request) = request(lines) else {
        return;
    };
    assert_target(&request);
    let client = Ipv4Addr::LOCALHOST.into();
    let header = HeaderName::try_from(&*name).ok().map(KeySource::Header);
    let sources = [
        KeySource::ClientIp,
        KeySource::Path,
        KeySource::Uri,
        KeySource::Cookie(name.clone()),
        KeySource::Query(name.clone()),
    ];
    for source in sources.iter().chain(&header) {
        let derived = DerivedKey::of(source, (&request).into(), Some(client));
        let found = hash_key::extract(source, (&request).into(), derived.as_ref());
        let RequestTarget { uri, .. } = RequestTarget::of((&request).into());
        let expected = match source {
            KeySource::ClientIp => Some(&b"127.0.0.1"[..]),
            KeySource::Header(name) => request.headers.get(name).map(HeaderValue::as_bytes),
            KeySource::Path => {
                // Normalization is idempotent, so equivalent paths lead to the same host.
                let sent = uri.split(|byte| *byte == b'?').next().unwrap_or_default();
                let path = normalize::path(sent).path;
                assert_eq!(found, Some(&*path).filter(|path| !path.is_empty()));
                assert_eq!(normalize::path(&path).path, path);
                found
            }
            KeySource::Uri => Some(uri),
            // The configuration rejects names with `=`.
            KeySource::Cookie(name) | KeySource::Query(name) if name.contains('=') => found,
            KeySource::Cookie(name) => {
                let fields = request.headers.get_all(COOKIE).iter();
                let pairs = fields.flat_map(|field| field.as_bytes().split(|b| *b == b';'));
                value(pairs, name).map(|value| match value.len() {
                    2.. if value.starts_with(b"\"") && value.ends_with(b"\"") => {
                        &value[1..value.len() - 1]
                    }
                    _ => value,
                })
            }
            KeySource::Query(name) => {
                let query = uri.splitn(2, |byte| *byte == b'?').nth(1);
                value(query.unwrap_or_default().split(|b| *b == b'&'), name)
            }
        };
        assert_eq!(found, expected.filter(|key| !key.is_empty()), "{source:?}");
        if let Some(found) = found.filter(|_| derived.is_none()) {
            let mut values = request.headers.values().map(HeaderValue::as_bytes);
            assert!(
                is_piece(found, request.raw_path()) || values.any(|value| is_piece(found, value)),
                "{source:?} made a copy"
            );
        }
        // An unrelated field does not change the key.
        let mut other = request.clone();
        let unrelated = HeaderValue::from_static("session=other; user=other");
        if header != Some(KeySource::Header(HeaderName::from_static("x-unrelated"))) {
            other.append_header("X-Unrelated", unrelated).unwrap();
        }
        let derived = DerivedKey::of(source, (&other).into(), Some(client));
        let again = hash_key::extract(source, (&other).into(), derived.as_ref());
        assert_eq!(again, found, "{source:?}");
    }
}

/// The value of the first of `pairs` with this name.
fn value<'a>(pairs: impl Iterator<Item = &'a [u8]>, name: &str) -> Option<&'a [u8]> {
    let mut pairs = pairs.map(|pair| pair.trim_ascii().splitn(2, |byte| *byte == b'='));
    pairs.find_map(|mut pair| (pair.next()? == name.as_bytes()).then(|| pair.next())?)
}

/// The parts of a target are slices of the request, and together they are the whole target.
fn assert_target(request: &RequestHeader) {
    let raw = request.raw_path();
    let target = RequestTarget::of(request.into());
    let host = request.headers.get(HOST).map(HeaderValue::as_bytes);
    assert!(is_piece(target.uri, raw) && raw.ends_with(target.uri));
    match raw_target_authority(raw) {
        RawTargetAuthority::Absolute { scheme, .. } => {
            assert!(target.absolute && is_piece(target.authority, raw));
            let whole = [scheme, b"://", target.authority, target.uri].concat();
            assert_eq!(whole, raw);
            assert!(!target.authority.iter().any(|byte| b"/?#".contains(byte)));
        }
        _ => {
            assert!(!target.absolute);
            assert_eq!((target.uri, target.authority), (raw, host.unwrap_or(b"")));
        }
    }
    assert!(!target.path().contains(&b'?'));
    match target.uri.len() - target.path().len() {
        0 => assert!(target.query().is_empty()),
        _ => assert_eq!([target.path(), b"?", target.query()].concat(), target.uri),
    }
}

/// Checks the client's address. The first line is the peer's address, the second a list of trusted networks, the rest a
/// request.
fn forwarded(input: &[u8]) {
    let mut lines = lines(input);
    let mut word = || String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let Ok(peer) = word().trim().parse::<IpAddr>() else {
        return;
    };
    let networks = word();
    let networks = networks
        .split([' ', ','])
        .filter_map(|net| net.parse().ok());
    let trusted = Vec::<IpNet>::from_iter(networks);
    let Some(request) = request(lines) else {
        return;
    };
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    let origin = ClientOrigin::new(peer, (&request.headers).into(), &trusted);
    assert_eq!(origin.peer, peer.to_canonical());
    assert_eq!(origin.trusted, is_trusted(origin.peer));
    assert_eq!(origin.client, origin.client.to_canonical());

    // Read from the right, each hop is vouched for by its successor. The client is the last address reported by a
    // trusted hop.
    let fields = request.headers.get_all(FOR).iter();
    let chain = fields.map(|field| String::from_utf8_lossy(field.as_bytes()).into_owned());
    let chain = Vec::from_iter(chain).join(",");
    let mut client = origin.peer;
    for hop in chain.rsplit(',') {
        match hop_address(hop) {
            Some(address) if is_trusted(client) => client = address,
            _ => break,
        }
    }
    assert_eq!(origin.client, client);

    // Entries to the left of the client's address change nothing.
    if !is_trusted(client) {
        let mut forged = RequestHeader::build("GET", b"/", None).unwrap();
        forged.append_header(FOR, "198.51.100.66").unwrap();
        for field in request.headers.get_all(FOR) {
            forged.append_header(FOR, field.clone()).unwrap();
        }
        assert_eq!(
            ClientOrigin::new(peer, (&forged.headers).into(), &trusted),
            origin
        );
    }
    for tls in [false, true] {
        assert_forwarded_fields(&origin, request.clone(), &trusted, tls);
    }
}

fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim_ascii();
    let bracketed = hop.starts_with('[') && hop.ends_with(']') && hop.len() > 1;
    let bare = if bracketed {
        &hop[1..hop.len() - 1]
    } else {
        hop
    };
    let with_port = || hop.parse::<SocketAddr>().map(|address| address.ip());
    let address = bare.parse().or_else(|_| with_port()).ok()?;
    Some(IpAddr::to_canonical(&address))
}

/// The host gets the true client, and a second proxy that trusts this one finds the same client.
fn assert_forwarded_fields(
    origin: &ClientOrigin,
    mut request: RequestHeader,
    trusted: &[IpNet],
    tls: bool,
) {
    let before = request.clone();
    if !origin.trusted {
        // Untrusted fields have been dropped before this step.
        for name in ["x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"] {
            request.remove_header(name);
        }
    }
    let connection = ConnectionInfo {
        tls,
        port: Some(8443),
    };
    let received = request.clone();
    let fields = FieldsView::from(&received.headers);
    let outcome = origin.set_forwarded_fields(fields, fields.get(&HOST), connection, &mut request);
    outcome.expect("values of a request can stand in one");
    let all = |request: &RequestHeader, name: &str| {
        let values = request.headers.get_all(name).iter();
        Vec::from_iter(values.map(|value| value.as_bytes().to_vec()))
    };
    let peer = origin.peer.to_string().into_bytes();
    let [chain] = &all(&request, FOR)[..] else {
        panic!("one X-Forwarded-For");
    };
    assert!(chain.ends_with(&peer));
    let was = |name: &str| all(&before, name);
    let kept = |name: &str| origin.trusted && !was(name).is_empty();
    if !kept(FOR) {
        assert_eq!(*chain, peer);
    }
    let scheme: &[u8] = if tls { b"https" } else { b"http" };
    let (proto, host) = ("x-forwarded-proto", "x-forwarded-host");
    match kept(proto) {
        true => assert_eq!(all(&request, proto), was(proto)),
        false => assert_eq!(all(&request, proto), [scheme]),
    }
    match kept(host) {
        true => assert_eq!(all(&request, host), was(host)),
        false => assert!(all(&request, host).iter().eq(was("host").iter().take(1))),
    }
    let client = origin.client.to_string().into_bytes();
    assert_eq!(all(&request, "x-real-ip"), [client]);
    let port = "x-forwarded-port";
    match kept(port) {
        true => assert_eq!(all(&request, port), was(port)),
        false if kept(proto) => assert_eq!(all(&request, port).len(), 1),
        false => assert_eq!(all(&request, port), [b"8443"]),
    }
    let here: IpAddr = Ipv4Addr::new(203, 0, 113, 77).into();
    if *chain == peer
        || *origin == ClientOrigin::new(origin.peer, (&before.headers).into(), trusted)
    {
        let trusted = [trusted, &[here.into()]].concat();
        let next = ClientOrigin::new(here, (&request.headers).into(), &trusted);
        assert_eq!(next.client, origin.client);
    }
}

/// Checks the trace context. The input is a list of fields, of which traceparent is read.
fn traced(input: &[u8]) {
    let lines = std::iter::once(&b"/"[..]).chain(lines(input));
    let Some(mut request) = request(lines) else {
        return;
    };
    let all = |request: &RequestHeader, name: &str| {
        let values = request.headers.get_all(name).iter();
        Vec::from_iter(values.map(|value| value.as_bytes().to_vec()))
    };
    let (traceparents, state) = (all(&request, "traceparent"), all(&request, "tracestate"));
    let never = TraceSampling {
        share: Share::of_percent(0.0),
        trust_clients: false,
    };
    let strangers = trace_context::extract((&request.headers).into(), never, false);
    assert!(!strangers.sampled);
    let trace = trace_context::extract((&request.headers).into(), never, true);
    assert_eq!(strangers.parent, trace.parent);
    assert!(trace.id != 0 && trace.span != 0);
    let Some(parent) = trace.parent else {
        return assert!(!trace.sampled);
    };
    // The trace is continued exactly as received, as far as its version is known.
    let [traceparent] = &traceparents[..] else {
        panic!("one of several was continued");
    };
    assert_eq!(trace.to_traceparent(parent)[2..53], traceparent[2..53]);
    let mut attempt = attempt();
    attempt.span = Some(trace.span);
    let passed = {
        let received = request.clone();
        let fields = (&received.headers).into();
        trace_context::inject(fields, Some(&trace), Some(&attempt), &mut request)
    };
    passed.expect("it is a valid field");
    let next = trace_context::extract((&request.headers).into(), never, true);
    assert_eq!(
        (next.id, next.parent, next.sampled),
        (trace.id, Some(trace.span), trace.sampled)
    );
    assert_eq!(all(&request, "tracestate"), state);
}

/// An attempt on an arbitrary host.
fn attempt() -> Attempt {
    let host = Host::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)));
    Attempt::begin(&host, 0, SelectionReason::Balanced, Instant::now())
}

#[test]
fn fuzz_key() {
    const WORDS: &[&str] = &[
        "session",
        "user",
        "Cookie: ",
        "cookie:",
        "session=",
        "user=",
        "=",
        "; ",
        ";",
        "&",
        "?",
        "\"",
        "http://",
        "https://",
        "ws:",
        "x:",
        "//",
        "a.example",
        "@",
        ":80",
        "/",
        "#",
        "Host: ",
        "X-User: ",
        "x-user\n",
        "*",
        "%00",
        "\\",
    ];
    fuzz::run("key", WORDS, keys);
}

#[test]
fn fuzz_forwarded() {
    const WORDS: &[&str] = &[
        "X-Forwarded-For: ",
        "X-Forwarded-Proto: ",
        "X-Forwarded-Host: ",
        "Host: ",
        ", ",
        ",",
        "10.0.0.1",
        "10.0.0.0/8",
        "192.0.2.1",
        "203.0.113.9",
        "::1",
        "::/0",
        "0.0.0.0/0",
        "::ffff:10.0.0.1",
        "[2001:db8::1]",
        ":4711",
        "[",
        "]",
        "unknown",
        "_hidden",
        "%1",
        "\n/\n",
    ];
    fuzz::run("forwarded", WORDS, forwarded);
}

#[test]
fn fuzz_traceparent() {
    const WORDS: &[&str] = &[
        "traceparent: ",
        "tracestate: a=1\n",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00000000000000000000000000000000",
        "0000000000000000",
        "ff",
        "cc",
        "-",
        "-more",
        "\n",
    ];
    fuzz::run("traceparent", WORDS, traced);
}
