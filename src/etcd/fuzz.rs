//! Fuzz target: what a member of etcd answers.

use prost::Message;

use super::messages::{RangeResponse, WatchResponse};
use super::prefix_state::PrefixState;
use crate::fuzz;

const PREFIX: &[u8] = b"/a/";

/// Reads the input as a page of keys and as changes.
fn etcd(input: &[u8]) {
    if let Ok(page) = RangeResponse::decode(input) {
        let mut state = PrefixState::new(PREFIX.to_vec(), 1, 1);
        for key_value in page.kvs {
            let is_inside = key_value.key.starts_with(PREFIX);
            assert_eq!(state.insert(key_value).is_ok(), is_inside);
        }
    }
    let Ok(response) = WatchResponse::decode(input) else {
        return;
    };
    let mut state = PrefixState::new(PREFIX.to_vec(), 1, 3);
    for event in response.events {
        let before = state.snapshot.clone();
        let is_change = state.apply(event);
        let after = &state.snapshot;
        match is_change {
            Ok(true) => assert!(after.revision >= before.revision),
            Ok(false) | Err(_) => assert_eq!(*after, before),
        }
        let mut keys = after.keys.iter();
        assert!(keys.all(|(key, value)| key.starts_with(PREFIX) && *key == value.key));
    }
}

#[test]
fn fuzz_etcd() {
    const WORDS: &[&str] = &[
        "/a/",
        "Z\u{d}",
        "\u{12}\u{b}",
        "\n\u{4}/a/b",
        "\u{18}\u{5}",
        "\u{8}\u{1}",
    ];
    fuzz::run("etcd", WORDS, etcd);
}
