//! Slow start: the share of a new or recovered host rises within a window.

use std::time::Duration;

use super::clock::as_nanos;

/// The settings of slow start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SlowStartOptions {
    /// The time until the share is 1.
    pub(crate) window: Duration,
    /// The initial share, above 0 and at most 1.
    pub(crate) floor: f64,
}

impl SlowStartOptions {
    /// When a slow start that began `elapsed` ago ends; `None` if it is over.
    pub(super) fn end(&self, now: u64, elapsed: Duration) -> Option<u64> {
        let left = self.window.checked_sub(elapsed)?;
        (!left.is_zero()).then(|| now.saturating_add(as_nanos(left)))
    }

    /// The elapsed time of a slow start that ends at `end`; `None` if it is over.
    pub(super) fn elapsed(&self, now: u64, end: u64) -> Option<Duration> {
        let left = end.checked_sub(now).filter(|&left| left > 0)?;
        Some(self.window.saturating_sub(Duration::from_nanos(left)))
    }

    /// Computes shares at `now`.
    pub(super) fn at(&self, now: u64) -> Ramp<'_> {
        Ramp { start: self, now }
    }
}

/// Computes the shares of hosts in slow start at one time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ramp<'a> {
    start: &'a SlowStartOptions,
    now: u64,
}

impl Ramp<'_> {
    /// The share of a host whose slow start ends at `end`. It rises linearly from the floor to 1.
    pub(super) fn share(&self, end: u64) -> f64 {
        let left = end.saturating_sub(self.now);
        if left == 0 {
            return 1.0;
        }
        let SlowStartOptions { window, floor } = *self.start;
        1.0 - (1.0 - floor) * (left as f64 / as_nanos(window) as f64).min(1.0)
    }
}
