//! Fuzz target: the sticky token in a client's cookie.

use std::time::{Duration, SystemTime};

use super::sticky::tests::{TTL, sticky};
use crate::fuzz;
use ballast_balancer::HostId;

const HOSTS: [&str; 2] = ["127.0.0.1:1", "127.0.0.1:2"];

/// Reads the input as a token, and as edits of a valid one: its age in seconds, its host, then pairs of position and
/// byte.
fn token(input: &[u8]) {
    let pool = |name, secret| sticky(name, &HOSTS, Some(secret));
    let tokens = pool("web", "0123456789abcdef");
    let others = [
        pool("web", "another secret..."),
        pool("api", "0123456789abcdef"),
    ];
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    assert_eq!(tokens.read(input, now), None, "a guessed token is refused");

    let [high, low, host, edits @ ..] = input else {
        return;
    };
    let age = Duration::from_secs(u16::from_be_bytes([*high, *low]).into());
    let host = &HostId::from(HOSTS[usize::from(host % 2)]);
    let valid = tokens.token(host, now - age);
    let mut edited = valid.clone().into_bytes();
    for edit in edits.chunks_exact(2) {
        let position = usize::from(edit[0]) % edited.len();
        edited[position] = edit[1];
    }
    let affinity = tokens.read(&edited, now);
    if edited == valid.as_bytes() && age < TTL {
        let affinity = affinity.expect("a valid token");
        assert_eq!(
            (&affinity.host, affinity.needs_renewal),
            (host, age >= TTL / 2)
        );
    } else {
        assert_eq!(affinity, None, "{}", edited.escape_ascii());
    }
    for other in others {
        assert_eq!(other.read(&edited, now), None);
    }
}

#[test]
fn fuzz_token() {
    const WORDS: &[&str] = &[
        "\0\0\0",
        "\u{1}\u{2c}\0",
        "\u{2}\u{58}\u{1}",
        "A",
        "_",
        "=",
        "-",
    ];
    fuzz::run("token", WORDS, token);
}
