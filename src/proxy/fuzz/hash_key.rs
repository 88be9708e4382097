//! The hash key of a request and the parts of its target.

use std::net::Ipv4Addr;

use http::header::{COOKIE, HOST, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::http::authority::{RawTargetAuthority, raw_target_authority};

use super::{lines, request};
use crate::config::KeySource;
use crate::fuzz;
use crate::normalize;
use crate::proxy::request_target::RequestTarget;
use crate::proxy::selection::hash_key::{self, DerivedKey};

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
