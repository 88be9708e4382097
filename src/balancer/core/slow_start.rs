//! Slow start: the share of a host that is new or recovered rises within a window.

use std::time::Duration;

use super::clock::as_nanos;

/// How a host starts slowly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SlowStart {
    /// The time until it has its whole share.
    pub(crate) window: Duration,
    /// The share that it begins with, above 0 and at most 1.
    pub(crate) floor: f64,
}

impl SlowStart {
    /// When a host that began `elapsed` ago has its whole share; `None` if it has it already.
    pub(super) fn end(&self, now: u64, elapsed: Duration) -> Option<u64> {
        let left = self.window.checked_sub(elapsed)?;
        (!left.is_zero()).then(|| now.saturating_add(as_nanos(left)))
    }

    /// How long ago a host began that will have its whole share at `end`; `None` if that is over.
    pub(super) fn elapsed(&self, now: u64, end: u64) -> Option<Duration> {
        let left = end.checked_sub(now).filter(|&left| left > 0)?;
        Some(self.window.saturating_sub(Duration::from_nanos(left)))
    }

    /// The shares at `now`.
    pub(super) fn at(&self, now: u64) -> Ramp<'_> {
        Ramp { start: self, now }
    }
}

/// The shares of slowly starting hosts at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ramp<'a> {
    start: &'a SlowStart,
    now: u64,
}

impl Ramp<'_> {
    /// The share of a host that has its whole share at `end`: it rises from the floor to 1 in a straight line.
    pub(super) fn share(&self, end: u64) -> f64 {
        let left = end.saturating_sub(self.now);
        if left == 0 {
            return 1.0;
        }
        let SlowStart { window, floor } = *self.start;
        1.0 - (1.0 - floor) * (left as f64 / as_nanos(window) as f64).min(1.0)
    }
}
