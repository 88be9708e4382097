//! Where the heads of requests begin and end on a connection of HTTP/2, RFC 9113 4.1.
//!
//! The `h2` crate says nothing of a head before it is whole, and waits for the rest without end. So the frames' own heads
//! are read here as well, as the bytes pass.

/// The length of the preface, RFC 9113 3.4.
const PREFACE: usize = 24;

/// The length of a frame's head.
const HEAD: usize = 9;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// What the next bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Preface,
    FrameHead,
    Payload,
}

/// What has come with some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Everything that was owed before.
    pub(super) paid: bool,
    /// The ends of requests' heads.
    pub(super) heads: bool,
}

/// How far a client's frames have come.
#[derive(Debug, Clone)]
pub(super) struct Frames {
    part: Part,
    /// Bytes that the part still lacks.
    left: usize,
    /// A frame's head, as far as it has come.
    head: [u8; HEAD],
    /// Whether the preface and the frame after it, which says the client's settings, or a request's head are not over.
    owed: bool,
}

impl Frames {
    /// Those of a connection that begins.
    pub(super) const START: Frames = Frames {
        part: Part::Preface,
        left: PREFACE,
        head: [0; HEAD],
        owed: true,
    };

    /// Takes what has come.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Taken {
        let mut paid = !self.owes();
        let mut heads = false;
        while !bytes.is_empty() {
            let (new, rest) = bytes.split_at(self.left.min(bytes.len()));
            bytes = rest;
            if self.part == Part::FrameHead {
                let come = HEAD - self.left;
                self.head[come..come + new.len()].copy_from_slice(new);
            }
            self.left -= new.len();
            if self.left == 0 {
                heads |= self.end_part();
            }
            paid |= !self.owes();
        }
        Taken { paid, heads }
    }

    /// Whether the client has begun something that it must not take its time over.
    pub(super) fn owes(&self) -> bool {
        self.owed || (self.part == Part::FrameHead && self.left < HEAD)
    }

    /// Goes on to the next part; whether the head of a request has ended.
    fn end_part(&mut self) -> bool {
        let [high, middle, low, kind, flags, ..] = self.head;
        let part = self.part;
        (self.part, self.left) = match part {
            Part::FrameHead => (
                Part::Payload,
                u32::from_be_bytes([0, high, middle, low]) as usize,
            ),
            Part::Preface | Part::Payload => (Part::FrameHead, HEAD),
        };
        let is_head = matches!(kind, HEADERS | CONTINUATION);
        match part {
            Part::Preface => false,
            Part::FrameHead => {
                self.owed |= is_head;
                self.left == 0 && self.end_part()
            }
            Part::Payload => {
                self.owed = is_head && flags & END_HEADERS == 0;
                is_head && !self.owed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: u8 = 0;
    const SETTINGS: u8 = 4;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., high, middle, low] = length.to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD + length, b'x');
        frame
    }

    /// What is owed after all of `bytes`, however they come.
    fn owes(bytes: &[u8]) -> bool {
        let mut whole = Frames::START;
        whole.take(bytes);
        let mut single = Frames::START;
        for byte in bytes {
            single.take(&[*byte]);
        }
        assert_eq!(single.owes(), whole.owes());
        whole.owes()
    }

    #[test]
    fn preface_and_settings_are_owed() {
        let mut start = vec![b'p'; PREFACE];
        for length in 0..PREFACE {
            assert!(owes(&start[..length]), "{length}");
        }
        start.extend(frame(SETTINGS, 0, 6));
        for length in PREFACE..start.len() {
            assert!(owes(&start[..length]), "{length}");
        }
        assert!(!owes(&start));
        start.truncate(PREFACE);
        start.extend(frame(SETTINGS, 0, 0));
        assert!(!owes(&start));
    }

    #[test]
    fn a_head_is_owed_until_the_frame_that_ends_it_is_whole() {
        let start = [vec![b'p'; PREFACE], frame(SETTINGS, 0, 0)].concat();
        let after = |frames: &[Vec<u8>]| owes(&[start.clone(), frames.concat()].concat());
        assert!(!after(&[frame(HEADERS, END_HEADERS, 5)]));
        assert!(after(&[frame(HEADERS, 0, 5)]));
        assert!(after(&[frame(HEADERS, 0, 5), frame(CONTINUATION, 0, 0)]));
        assert!(!after(&[
            frame(HEADERS, 0, 5),
            frame(CONTINUATION, 0, 0),
            frame(CONTINUATION, END_HEADERS, 7)
        ]));
        let mut torn = frame(HEADERS, END_HEADERS, 5);
        torn.pop();
        assert!(after(&[torn]));
        // A frame's head comes at once, but the body may take its time.
        let data = frame(DATA, 0, 500);
        assert!(after(&[data[..3].to_vec()]));
        assert!(!after(&[data[..HEAD].to_vec()]));
        assert!(!after(&[data[..100].to_vec()]));
        assert!(after(&[data, frame(HEADERS, 0, 1)]));
    }

    #[test]
    fn the_time_begins_anew_with_each_head() {
        let mut frames = Frames::START;
        let mut take = |bytes: &[u8]| {
            let taken = frames.take(bytes);
            (taken.paid, taken.heads, frames.owes())
        };
        assert_eq!(take(&[b'p'; PREFACE]), (false, false, true));
        assert_eq!(take(&frame(SETTINGS, 0, 0)), (true, false, false));
        let head = frame(HEADERS, END_HEADERS, 50);
        let two = [head.clone(), head[..20].to_vec()].concat();
        assert_eq!(take(&two[..30]), (true, false, true));
        assert_eq!(take(&two[30..40]), (false, false, true));
        // The first is over, and the second has begun.
        assert_eq!(take(&two[40..]), (true, true, true));
        assert_eq!(take(&head[20..40]), (false, false, true));
        assert_eq!(take(&head[40..]), (true, true, false));
    }
}
