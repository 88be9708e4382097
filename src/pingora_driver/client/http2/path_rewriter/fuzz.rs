//! Fuzzing of the bytes that a client sends after the preface.

use super::tests::{frame, passed, start};
use super::*;
use crate::fuzz;
use crate::pingora_driver::client::http2::frame::RST_STREAM;

const WORDS: &[&str] = &[
    "\u{4}\u{2}/<",
    ":path",
    "/a#b",
    "\0\0\u{5}\u{1}\u{4}\0\0\0\u{1}",
    "\0\0\0\u{9}\u{4}\0\0\0\u{1}",
    // A head without END_STREAM, its trailers with one pseudo-header field, and the end by DATA.
    "\0\0\u{3}\u{1}\u{4}\0\0\0\u{1}\u{4}\u{1}/",
    "\0\0\u{6}\u{1}\u{5}\0\0\0\u{1}\0\u{2}:x\u{1}y",
    "\0\0\0\0\u{1}\0\0\0\u{1}",
];

/// Maximum input length. The rewriter may hold back this many bytes, so the division into reads makes no difference.
const MOST: usize = 4_096;

/// The result does not depend on the division into reads, no path that `h2` rejects reaches it, and no request ends with
/// pseudo-header fields in its trailers.
fn heads(input: &[u8]) {
    let input = &input[..input.len().min(MOST)];
    let bytes = [&start(), input].concat();
    let whole = passed([&*bytes]);
    assert_eq!(passed(bytes.chunks(1)), whole);
    no_malformed_trailers_end_a_stream(&whole);
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

/// Follows the frames up to the first one that the rewriter leaves to `h2`.
fn no_malformed_trailers_end_a_stream(bytes: &[u8]) {
    let mut table = HpackTable::new();
    let mut streams = OpenStreams::default();
    let mut rest = &bytes[PREFACE.min(bytes.len())..];
    while let Ok(next) = unit(rest) {
        let length = match next {
            NextUnit::Torn => return,
            NextUnit::Frame(frame) => {
                streams.note(frame);
                FRAME_HEADER_LENGTH + frame.length
            }
            NextUnit::Head(length) => {
                let frame = FrameHeader::of(rest).expect("a head");
                let mut block = Vec::new();
                let mut frames = &rest[..length];
                while let Some(part) = FrameHeader::of(frames) {
                    let (payload, more) = frames[FRAME_HEADER_LENGTH..].split_at(part.length);
                    let flags = if block.is_empty() && part.kind == HEADERS {
                        part.flags
                    } else {
                        0
                    };
                    let Ok((_, payload)) = unpadded(flags, payload) else {
                        return;
                    };
                    block.extend_from_slice(payload);
                    frames = more;
                }
                let Ok(scan) = table.walk(&block, is_odd) else {
                    return;
                };
                let are_trailers = streams.note(frame);
                let ends = frame.flags & END_STREAM != 0;
                assert!(!(are_trailers && ends && scan.has_pseudo_fields));
                if are_trailers && scan.has_pseudo_fields {
                    // Trailers without END_STREAM make `h2` reset the stream.
                    let kind = RST_STREAM;
                    streams.note(FrameHeader { kind, ..frame });
                }
                length
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
}

#[test]
fn fuzz_h2_heads() {
    fuzz::run("h2_heads", WORDS, heads);
}
