//! Tracks the frames of an HTTP/2 connection, RFC 9113 4.1, to find where the heads of requests begin and end.
//!
//! The `h2` crate does not report a head before it is complete, and waits for the rest without a timeout. So this
//! module reads the frame headers as well, while the bytes pass. `h2` also accepts any number of frames that carry no
//! request and no body; this module limits them.

use std::time::Duration;

use tokio::time::Instant;

/// Length of the connection preface in bytes, RFC 9113 3.4.
const PREFACE: usize = 24;

/// Length of a frame header in bytes.
const FRAME_HEAD_LENGTH: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// How many idle frames, which carry no request and no body, a client may send before it has earned more. A client that
/// opens a connection sends a hundred at most (settings, priorities of a tree, pings).
const MAX_IDLE_FRAMES: u32 = 1_000;

/// Idle frames earned by each request head.
const IDLE_FRAMES_PER_HEAD: u32 = 10;

/// Idle frames earned per second. Clients send a ping every few seconds.
const IDLE_FRAMES_PER_SECOND: u32 = 10;

/// Upper bound of window updates that a client may have earned at any time.
const MAX_WINDOW_UPDATES: u32 = 100_000;

/// A client earns one window update per this number of bytes sent to it, in addition to the first [`MAX_IDLE_FRAMES`].
/// A message on a stream has a frame header of nine bytes, and some clients open both windows after each message.
const BYTES_PER_WINDOW_UPDATE: usize = 8;

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
    left: usize,
    /// The header of the current frame, as far as it has been read.
    head: [u8; FRAME_HEAD_LENGTH],
    /// Whether the preface with the client's first SETTINGS, or a request head, is incomplete.
    is_head_open: bool,
    idle: IdleBudget,
}

/// How many idle frames the client may still send.
#[derive(Debug, Clone)]
struct IdleBudget {
    frames: u32,
    windows: u32,
    /// Bytes written that have not yet been converted into window updates.
    written: usize,
    /// Time up to which the seconds have been converted into idle frames.
    since: Instant,
    is_flood: bool,
}

impl IdleBudget {
    fn new() -> Self {
        IdleBudget {
            frames: MAX_IDLE_FRAMES,
            windows: MAX_IDLE_FRAMES,
            written: 0,
            since: Instant::now(),
            is_flood: false,
        }
    }

    fn make_up(&mut self, frames: u32) {
        self.frames = MAX_IDLE_FRAMES.min(self.frames.saturating_add(frames));
    }

    fn spend(&mut self) {
        if self.frames == 0 {
            // The clock is read only here.
            let seconds = self.since.elapsed().as_secs();
            self.since += Duration::from_secs(seconds);
            self.make_up(u32::try_from(seconds).map_or(MAX_IDLE_FRAMES, |it| {
                it.saturating_mul(IDLE_FRAMES_PER_SECOND)
            }));
        }
        match self.frames.checked_sub(1) {
            Some(left) => self.frames = left,
            None => self.is_flood = true,
        }
    }

    fn open_window(&mut self) {
        match self.windows.checked_sub(1) {
            Some(left) => self.windows = left,
            None => {
                let earned =
                    u32::try_from(self.written / BYTES_PER_WINDOW_UPDATE).unwrap_or(u32::MAX);
                self.written %= BYTES_PER_WINDOW_UPDATE;
                match earned.checked_sub(1) {
                    Some(left) => self.windows = left.min(MAX_WINDOW_UPDATES),
                    // Beyond its own budget, a window update counts as an idle frame.
                    None => self.spend(),
                }
            }
        }
    }
}

impl H2Frames {
    /// The state at the start of a connection.
    pub(crate) fn new() -> Self {
        H2Frames {
            part: FramePart::Preface,
            left: PREFACE,
            head: [0; FRAME_HEAD_LENGTH],
            is_head_open: true,
            idle: IdleBudget::new(),
        }
    }

    /// Records that `bytes` were sent to the client.
    pub(crate) fn note_written(&mut self, bytes: usize) {
        self.idle.written = self.idle.written.saturating_add(bytes);
    }

    /// Tracks the bytes just read.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> ReadOutcome {
        let mut is_head_complete = !self.awaits_head();
        let mut has_heads = false;
        while !bytes.is_empty() {
            let (new, rest) = bytes.split_at(self.left.min(bytes.len()));
            bytes = rest;
            if self.part == FramePart::FrameHead {
                let come = FRAME_HEAD_LENGTH - self.left;
                self.head[come..come + new.len()].copy_from_slice(new);
            } else if self.part == FramePart::Payload
                && self.is_padded_data()
                && self.left == self.length()
                && let Some(padding) = new.first()
                && self.left == 1 + usize::from(*padding)
            {
                self.idle.spend();
            }
            self.left -= new.len();
            if self.left == 0 {
                has_heads |= self.end_part();
            }
            is_head_complete |= !self.awaits_head();
        }
        ReadOutcome {
            is_head_complete,
            has_heads,
            is_flood: self.idle.is_flood,
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
            HEADERS => self.idle.make_up(IDLE_FRAMES_PER_HEAD),
            DATA if self.length() > 0 || flags & END_STREAM != 0 => {
                if flags & PADDED == 0 {
                    self.idle.make_up(1);
                }
            }
            WINDOW_UPDATE => self.idle.open_window(),
            _ => self.idle.spend(),
        }
    }

    /// Whether the client has begun a head that is due within the head timeout.
    pub(crate) fn awaits_head(&self) -> bool {
        self.is_head_open || (self.part == FramePart::FrameHead && self.left < FRAME_HEAD_LENGTH)
    }

    /// Moves on to the next part. Returns whether a request head has ended.
    fn end_part(&mut self) -> bool {
        let [_, _, _, kind, flags, ..] = self.head;
        let part = self.part;
        (self.part, self.left) = match part {
            FramePart::FrameHead => (FramePart::Payload, self.length()),
            FramePart::Preface | FramePart::Payload => (FramePart::FrameHead, FRAME_HEAD_LENGTH),
        };
        let is_head = matches!(kind, HEADERS | CONTINUATION);
        match part {
            FramePart::Preface => false,
            FramePart::FrameHead => {
                self.is_head_open |= is_head;
                self.count();
                self.left == 0 && self.end_part()
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
    use super::*;

    const SETTINGS: u8 = 4;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., high, middle, low] = length.to_be_bytes();
        let mut frame = vec![high, middle, low, kind, flags, 0, 0, 0, 1];
        frame.resize(FRAME_HEAD_LENGTH + length, b'x');
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
    fn preface_and_settings_are_owed() {
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
    fn a_head_is_owed_until_the_frame_that_ends_it_is_whole() {
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
        let mut torn = frame(HEADERS, END_HEADERS, 5);
        torn.pop();
        assert!(after(&[torn]));
        // A frame header is due within the head timeout, but the body of a request is not.
        let data = frame(DATA, 0, 500);
        assert!(after(&[data[..3].to_vec()]));
        assert!(!after(&[data[..FRAME_HEAD_LENGTH].to_vec()]));
        assert!(!after(&[data[..100].to_vec()]));
        assert!(after(&[data, frame(HEADERS, 0, 1)]));
    }

    #[test]
    fn the_time_begins_anew_with_each_head() {
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
    fn taken(frames: &mut H2Frames, flood: &[u8]) -> usize {
        let place = (0..5_000).find(|_| frames.take(flood).is_flood);
        place.unwrap_or(5_000)
    }

    fn begun() -> H2Frames {
        let mut frames = H2Frames::new();
        frames.take(&[&[b'p'; PREFACE][..], &frame(SETTINGS, 0, 0)].concat());
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn idle_frames_are_counted() {
        let left = MAX_IDLE_FRAMES as usize - 1;
        let only_padding = {
            let mut frame = frame(DATA, PADDED, 3);
            frame[FRAME_HEAD_LENGTH] = 2;
            frame
        };
        for idle in [
            frame(PING, 0, 8),
            frame(SETTINGS, 1, 0),
            frame(0x99, 0, 3),
            frame(DATA, 0, 0),
            only_padding,
        ] {
            assert_eq!(taken(&mut begun(), &idle), left, "{idle:?}");
        }
        let mut one = frame(DATA, PADDED, 4);
        one[FRAME_HEAD_LENGTH] = 2;
        for useful in [
            one,
            frame(DATA, 0, 1),
            frame(DATA, END_STREAM, 0),
            frame(HEADERS, END_HEADERS, 1),
        ] {
            assert_eq!(taken(&mut begun(), &useful), 5_000);
            let with_ping = [useful, frame(PING, 0, 8)].concat();
            assert!(taken(&mut begun(), &with_ping) >= left);
        }
        // Idle frames are earned over time.
        let mut frames = begun();
        for _ in 0..left {
            assert!(!frames.take(&frame(PING, 0, 8)).is_flood);
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(
            taken(&mut frames, &frame(PING, 0, 8)),
            3 * IDLE_FRAMES_PER_SECOND as usize
        );
    }

    #[test]
    fn windows_are_opened_for_what_was_sent() {
        let update = frame(WINDOW_UPDATE, 0, 4);
        let all = 2 * MAX_IDLE_FRAMES as usize - 1;
        assert_eq!(taken(&mut begun(), &update), all);
        let mut frames = begun();
        frames.note_written(100 * BYTES_PER_WINDOW_UPDATE);
        assert_eq!(taken(&mut frames, &update), all + 100);
        // Bytes written do not earn other idle frames.
        let mut frames = begun();
        frames.note_written(1 << 20);
        assert_eq!(
            taken(&mut frames, &frame(PING, 0, 8)),
            MAX_IDLE_FRAMES as usize - 1
        );
    }
}
