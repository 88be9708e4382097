//! Fuzzing of the bytes that a client sends after the preface.

use super::tests::{frame, passed, start};
use super::*;
use crate::fuzz;

const WORDS: &[&str] = &[
    "\u{4}\u{2}/<",
    ":path",
    "/a#b",
    "\0\0\u{5}\u{1}\u{4}\0\0\0\u{1}",
    "\0\0\0\u{9}\u{4}\0\0\0\u{1}",
];

/// Maximum input length. The rewriter may hold back this many bytes, so the division into reads makes no difference.
const MOST: usize = 4_096;

/// The result does not depend on the division into reads, and no path that `h2` rejects reaches it.
fn heads(input: &[u8]) {
    let input = &input[..input.len().min(MOST)];
    let bytes = [&start(), input].concat();
    let whole = passed([&*bytes]);
    assert_eq!(passed(bytes.chunks(1)), whole);
    // Reads the input as a list of blocks, up to the first invalid one.
    let mut before = HpackTable::new();
    let mut after = HpackTable::new();
    for block in input.split(|octet| *octet == b'\n') {
        let Ok(odd) = before.walk(block, is_odd) else {
            break;
        };
        let new = replace_paths(&odd, block).unwrap_or_else(|| block.to_vec());
        let left = after.walk(&new, is_odd).expect("a block remains one");
        assert!(left.path.is_none(), "{}", new.escape_ascii());
        let is_changed = new != block;
        assert_eq!(is_changed, odd.path.is_some());
        let framed = [start(), frame(HEADERS, END_HEADERS, &new)].concat();
        if HpackTable::new()
            .walk(&new, is_odd)
            .is_ok_and(|it| it.path.is_none())
        {
            assert_eq!(passed([&*framed]), framed);
        }
    }
}

#[test]
fn fuzz_h2_heads() {
    fuzz::run("h2_heads", WORDS, heads);
}
