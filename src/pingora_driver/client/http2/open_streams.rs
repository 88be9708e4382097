//! The streams on which a client may still send a part of its request, as its own frames tell.

use std::collections::VecDeque;

use super::frame::{DATA, END_STREAM, FrameHeader, HEADERS, RST_STREAM};

/// How many streams are remembered. Those that the client opens but never ends, because their response has ended, remain
/// among them until others take their places.
const MAX_REMEMBERED: usize = 256;

/// Tells the head of a request from trailers.
#[derive(Debug, Default)]
pub(super) struct OpenStreams {
    /// The streams with an unfinished request, in the order of their numbers.
    open: VecDeque<u32>,
    /// The last stream opened.
    last: u32,
    /// The last stream that was open when it had to be forgotten.
    forgotten: u32,
}

impl OpenStreams {
    /// Notes a frame. Returns whether it is a HEADERS frame that comes after the head of an unfinished request: trailers.
    pub(super) fn note(&mut self, frame: FrameHeader) -> bool {
        let stream = frame.stream_id();
        let ends = frame.flags & END_STREAM != 0;
        match frame.kind {
            HEADERS if stream > self.last => {
                self.last = stream;
                if !ends {
                    self.open(stream);
                }
                false
            }
            HEADERS => {
                let position = self.position(stream);
                if let Some(position) = position.filter(|_| ends) {
                    self.open.remove(position);
                }
                position.is_some() || stream <= self.forgotten
            }
            DATA if !ends => false,
            DATA | RST_STREAM => {
                if let Some(position) = self.position(stream) {
                    self.open.remove(position);
                }
                false
            }
            _ => false,
        }
    }

    fn open(&mut self, stream: u32) {
        if self.open.len() == MAX_REMEMBERED
            && let Some(oldest) = self.open.pop_front()
        {
            self.forgotten = oldest;
        }
        self.open.push_back(stream);
    }

    fn position(&self, stream: u32) -> Option<usize> {
        self.open.iter().position(|open| *open == stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32) -> FrameHeader {
        FrameHeader {
            length: 0,
            kind,
            flags,
            stream: stream.to_be_bytes(),
        }
    }

    #[test]
    fn headers_after_a_head_are_trailers_until_the_request_ends() {
        for end in [
            frame(DATA, END_STREAM, 1),
            frame(HEADERS, END_STREAM, 1),
            frame(RST_STREAM, 0, 1),
        ] {
            let mut streams = OpenStreams::default();
            assert!(!streams.note(frame(HEADERS, 0, 1)));
            assert!(!streams.note(frame(HEADERS, END_STREAM, 3)));
            assert!(!streams.note(frame(DATA, 0, 1)));
            assert!(streams.note(frame(HEADERS, 0, 1)));
            assert_eq!(streams.note(end), end.kind == HEADERS);
            assert!(!streams.note(frame(HEADERS, END_STREAM, 1)));
            assert!(!streams.note(frame(HEADERS, END_STREAM, 3)));
            assert!(streams.open.is_empty());
        }
    }

    #[test]
    fn forgotten_streams_count_as_open() {
        let mut streams = OpenStreams::default();
        for number in 0..2 * MAX_REMEMBERED as u32 {
            assert!(!streams.note(frame(HEADERS, 0, 2 * number + 1)));
        }
        assert_eq!(streams.open.len(), MAX_REMEMBERED);
        assert!(streams.note(frame(HEADERS, END_STREAM, 1)));
    }
}
