//! Tracks the frames of an HTTP/2 connection, RFC 9113 4.1, to find where the heads of requests begin and end.
//!
//! The `h2` crate does not report a head before it is complete, and waits for the rest without a timeout. So this
//! module reads the frame headers as well, while the bytes pass. `h2` also accepts any number of frames that carry no
//! request and no body; this module limits them.

use super::frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_HEADER_LENGTH, HEADERS, PADDED, PREFACE,
    WINDOW_UPDATE,
};
use super::idle_frame_budget::{IDLE_FRAMES_PER_HEAD, IdleFrameBudget};

/// The part of the connection to which the next bytes belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FramePart {
    Preface,
    FrameHead,
    Payload,
}

/// The effect of the bytes just read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadOutcome {
    /// All heads that were incomplete before are now complete.
    pub(crate) is_head_complete: bool,
    /// At least one request head has ended.
    pub(crate) has_heads: bool,
    /// The client has exceeded its budget of idle frames.
    pub(crate) is_flood: bool,
}

/// The position of a client's byte stream within its frames.
#[derive(Debug, Clone)]
pub(crate) struct H2Frames {
    part: FramePart,
    /// Bytes missing from the current part.
    missing: usize,
    /// The header of the current frame, as far as it has been read.
    head: [u8; FRAME_HEADER_LENGTH],
    /// Whether the preface with the client's first SETTINGS, or a request head, is incomplete.
    is_head_open: bool,
    idle: IdleFrameBudget,
}

impl H2Frames {
    /// The state at the start of a connection.
    pub(crate) fn new() -> Self {
        H2Frames {
            part: FramePart::Preface,
            missing: PREFACE,
            head: [0; FRAME_HEADER_LENGTH],
            is_head_open: true,
            idle: IdleFrameBudget::new(),
        }
    }

    /// Records that `bytes` were sent to the client.
    pub(crate) fn note_written(&mut self, bytes: usize) {
        self.idle.note_written(bytes);
    }

    /// Tracks the bytes just read.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> ReadOutcome {
        let mut is_head_complete = !self.awaits_head();
        let mut has_heads = false;
        while !bytes.is_empty() {
            let (new, rest) = bytes.split_at(self.missing.min(bytes.len()));
            bytes = rest;
            if self.part == FramePart::FrameHead {
                let filled = FRAME_HEADER_LENGTH - self.missing;
                self.head[filled..filled + new.len()].copy_from_slice(new);
            } else if self.part == FramePart::Payload
                && self.is_padded_data()
                && self.missing == self.length()
                && let Some(padding) = new.first()
                && self.missing == 1 + usize::from(*padding)
            {
                self.idle.spend();
            }
            self.missing -= new.len();
            if self.missing == 0 {
                has_heads |= self.end_part();
            }
            is_head_complete |= !self.awaits_head();
        }
        ReadOutcome {
            is_head_complete,
            has_heads,
            is_flood: self.idle.is_flood(),
        }
    }

    /// Length of the frame's payload.
    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.head;
        u32::from_be_bytes([0, high, middle, low]) as usize
    }

    /// Whether this is a padded DATA frame, whose first payload byte is the length of the padding.
    fn is_padded_data(&self) -> bool {
        let [_, _, _, kind, flags, ..] = self.head;
        kind == DATA && flags & PADDED != 0 && flags & END_STREAM == 0
    }

    /// Counts the frame whose header has just been completed.
    fn count(&mut self) {
        let [_, _, _, kind, flags, ..] = self.head;
        match kind {
            HEADERS => self.idle.earn(IDLE_FRAMES_PER_HEAD),
            DATA if self.length() > 0 || flags & END_STREAM != 0 => {
                if flags & PADDED == 0 {
                    self.idle.earn(1);
                }
            }
            WINDOW_UPDATE => self.idle.open_window(),
            _ => self.idle.spend(),
        }
    }

    /// Whether the client has begun a head that is due within the head timeout.
    pub(crate) fn awaits_head(&self) -> bool {
        self.is_head_open
            || (self.part == FramePart::FrameHead && self.missing < FRAME_HEADER_LENGTH)
    }

    /// Moves on to the next part. Returns whether a request head has ended.
    fn end_part(&mut self) -> bool {
        let [_, _, _, kind, flags, ..] = self.head;
        let part = self.part;
        (self.part, self.missing) = match part {
            FramePart::FrameHead => (FramePart::Payload, self.length()),
            FramePart::Preface | FramePart::Payload => (FramePart::FrameHead, FRAME_HEADER_LENGTH),
        };
        let is_head = matches!(kind, HEADERS | CONTINUATION);
        match part {
            FramePart::Preface => false,
            FramePart::FrameHead => {
                self.is_head_open |= is_head;
                self.count();
                self.missing == 0 && self.end_part()
            }
            FramePart::Payload => {
                self.is_head_open = is_head && flags & END_HEADERS == 0;
                is_head && !self.is_head_open
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pingora_driver::client::http2::idle_frame_budget::{
        BYTES_PER_WINDOW_UPDATE, IDLE_FRAMES_PER_SECOND, MAX_IDLE_FRAMES,
    };

    const SETTINGS: u8 = 4;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., high, middle, low] = length.to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        frame.resize(FRAME_HEADER_LENGTH + length, b'x');
        frame
    }

    /// Whether a head is incomplete after all of `bytes`, for any division into reads.
    fn awaits_head(bytes: &[u8]) -> bool {
        let mut whole = H2Frames::new();
        whole.take(bytes);
        let mut single = H2Frames::new();
        for byte in bytes {
            single.take(&[*byte]);
        }
        assert_eq!(single.awaits_head(), whole.awaits_head());
        whole.awaits_head()
    }

    #[test]
    fn preface_and_settings_are_pending_at_first() {
        let mut start = vec![b'p'; PREFACE];
        for length in 0..PREFACE {
            assert!(awaits_head(&start[..length]), "{length}");
        }
        start.extend(frame(SETTINGS, 0, 6));
        for length in PREFACE..start.len() {
            assert!(awaits_head(&start[..length]), "{length}");
        }
        assert!(!awaits_head(&start));
        start.truncate(PREFACE);
        start.extend(frame(SETTINGS, 0, 0));
        assert!(!awaits_head(&start));
    }

    #[test]
    fn a_head_is_pending_until_its_last_frame_is_complete() {
        let start = [vec![b'p'; PREFACE], frame(SETTINGS, 0, 0)].concat();
        let after = |frames: &[Vec<u8>]| awaits_head(&[start.clone(), frames.concat()].concat());
        assert!(!after(&[frame(HEADERS, END_HEADERS, 5)]));
        assert!(after(&[frame(HEADERS, 0, 5)]));
        assert!(after(&[frame(HEADERS, 0, 5), frame(CONTINUATION, 0, 0)]));
        assert!(!after(&[
            frame(HEADERS, 0, 5),
            frame(CONTINUATION, 0, 0),
            frame(CONTINUATION, END_HEADERS, 7)
        ]));
        let mut truncated = frame(HEADERS, END_HEADERS, 5);
        truncated.pop();
        assert!(after(&[truncated]));
        // A frame header is due within the head timeout, but the body of a request is not.
        let data = frame(DATA, 0, 500);
        assert!(after(&[data[..3].to_vec()]));
        assert!(!after(&[data[..FRAME_HEADER_LENGTH].to_vec()]));
        assert!(!after(&[data[..100].to_vec()]));
        assert!(after(&[data, frame(HEADERS, 0, 1)]));
    }

    #[test]
    fn each_head_starts_a_new_timeout() {
        let mut frames = H2Frames::new();
        let mut take = |bytes: &[u8]| {
            let taken = frames.take(bytes);
            assert!(!taken.is_flood);
            (
                taken.is_head_complete,
                taken.has_heads,
                frames.awaits_head(),
            )
        };
        assert_eq!(take(&[b'p'; PREFACE]), (false, false, true));
        assert_eq!(take(&frame(SETTINGS, 0, 0)), (true, false, false));
        let head = frame(HEADERS, END_HEADERS, 50);
        let two = [head.clone(), head[..20].to_vec()].concat();
        assert_eq!(take(&two[..30]), (true, false, true));
        assert_eq!(take(&two[30..40]), (false, false, true));
        // The first head is complete, and the second one has begun.
        assert_eq!(take(&two[40..]), (true, true, true));
        assert_eq!(take(&head[20..40]), (false, false, true));
        assert_eq!(take(&head[40..]), (true, true, false));
    }

    const PING: u8 = 6;

    /// How many copies of `flood` a new connection accepts, up to 5,000.
    fn accepted(frames: &mut H2Frames, flood: &[u8]) -> usize {
        let count = (0..5_000).find(|_| frames.take(flood).is_flood);
        count.unwrap_or(5_000)
    }

    fn open_connection() -> H2Frames {
        let mut frames = H2Frames::new();
        frames.take(&[&[b'p'; PREFACE][..], &frame(SETTINGS, 0, 0)].concat());
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn idle_frames_are_counted() {
        let limit = MAX_IDLE_FRAMES as usize - 1;
        let only_padding = {
            let mut frame = frame(DATA, PADDED, 3);
            frame[FRAME_HEADER_LENGTH] = 2;
            frame
        };
        for idle in [
            frame(PING, 0, 8),
            frame(SETTINGS, 1, 0),
            frame(0x99, 0, 3),
            frame(DATA, 0, 0),
            only_padding,
        ] {
            assert_eq!(accepted(&mut open_connection(), &idle), limit, "{idle:?}");
        }
        let mut one = frame(DATA, PADDED, 4);
        one[FRAME_HEADER_LENGTH] = 2;
        for useful in [
            one,
            frame(DATA, 0, 1),
            frame(DATA, END_STREAM, 0),
            frame(HEADERS, END_HEADERS, 1),
        ] {
            assert_eq!(accepted(&mut open_connection(), &useful), 5_000);
            let with_ping = [useful, frame(PING, 0, 8)].concat();
            assert!(accepted(&mut open_connection(), &with_ping) >= limit);
        }
        // Idle frames are earned over time.
        let mut frames = open_connection();
        for _ in 0..limit {
            assert!(!frames.take(&frame(PING, 0, 8)).is_flood);
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(
            accepted(&mut frames, &frame(PING, 0, 8)),
            3 * IDLE_FRAMES_PER_SECOND as usize
        );
    }

    #[test]
    fn window_updates_are_earned_by_bytes_sent() {
        let update = frame(WINDOW_UPDATE, 0, 4);
        let all = 2 * MAX_IDLE_FRAMES as usize - 1;
        assert_eq!(accepted(&mut open_connection(), &update), all);
        let mut frames = open_connection();
        frames.note_written(100 * BYTES_PER_WINDOW_UPDATE);
        assert_eq!(accepted(&mut frames, &update), all + 100);
        // Bytes written do not earn other idle frames.
        let mut frames = open_connection();
        frames.note_written(1 << 20);
        assert_eq!(
            accepted(&mut frames, &frame(PING, 0, 8)),
            MAX_IDLE_FRAMES as usize - 1
        );
    }
}
