//! The limit on idle frames: HTTP/2 frames of a client that carry no request and no body. The `h2` crate accepts any
//! number of them.

use std::time::Duration;

use tokio::time::Instant;

/// How many idle frames, which carry no request and no body, a client may send before it has earned more. A client that
/// opens a connection sends a hundred at most (settings, priorities of a tree, pings).
pub(super) const MAX_IDLE_FRAMES: u32 = 1_000;

/// Idle frames earned by each request head.
pub(super) const IDLE_FRAMES_PER_HEAD: u32 = 10;

/// Idle frames earned per second. Clients send a ping every few seconds.
pub(super) const IDLE_FRAMES_PER_SECOND: u32 = 10;

/// Upper bound of window updates that a client may have earned at any time.
const MAX_WINDOW_UPDATES: u32 = 100_000;

/// A client earns one window update per this number of bytes sent to it, in addition to the first [`MAX_IDLE_FRAMES`].
/// A message on a stream has a frame header of nine bytes, and some clients open both windows after each message.
pub(super) const BYTES_PER_WINDOW_UPDATE: usize = 8;

/// How many idle frames the client may still send.
#[derive(Debug, Clone)]
pub(super) struct IdleFrameBudget {
    frames: u32,
    windows: u32,
    /// Bytes written that have not yet been converted into window updates.
    written: usize,
    /// Time up to which the seconds have been converted into idle frames.
    converted_until: Instant,
    is_flood: bool,
}

impl IdleFrameBudget {
    pub(super) fn new() -> Self {
        IdleFrameBudget {
            frames: MAX_IDLE_FRAMES,
            windows: MAX_IDLE_FRAMES,
            written: 0,
            converted_until: Instant::now(),
            is_flood: false,
        }
    }

    /// Adds frames to the budget, up to [`MAX_IDLE_FRAMES`].
    pub(super) fn earn(&mut self, frames: u32) {
        self.frames = MAX_IDLE_FRAMES.min(self.frames.saturating_add(frames));
    }

    /// Takes one idle frame from the budget.
    pub(super) fn spend(&mut self) {
        if self.frames == 0 {
            // The clock is read only here.
            let seconds = self.converted_until.elapsed().as_secs();
            self.converted_until += Duration::from_secs(seconds);
            self.earn(u32::try_from(seconds).map_or(MAX_IDLE_FRAMES, |it| {
                it.saturating_mul(IDLE_FRAMES_PER_SECOND)
            }));
        }
        match self.frames.checked_sub(1) {
            Some(remaining) => self.frames = remaining,
            None => self.is_flood = true,
        }
    }

    /// Takes one window update from the budget.
    pub(super) fn open_window(&mut self) {
        match self.windows.checked_sub(1) {
            Some(remaining) => self.windows = remaining,
            None => {
                let earned =
                    u32::try_from(self.written / BYTES_PER_WINDOW_UPDATE).unwrap_or(u32::MAX);
                self.written %= BYTES_PER_WINDOW_UPDATE;
                match earned.checked_sub(1) {
                    Some(remaining) => self.windows = remaining.min(MAX_WINDOW_UPDATES),
                    // Beyond its own budget, a window update counts as an idle frame.
                    None => self.spend(),
                }
            }
        }
    }

    /// Records that `bytes` were sent to the client.
    pub(super) fn note_written(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(bytes);
    }

    /// Whether the client has exceeded its budget.
    pub(super) fn is_flood(&self) -> bool {
        self.is_flood
    }
}
