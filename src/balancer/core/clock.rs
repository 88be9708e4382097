//! Time, passed in from outside.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The instant that the monotonic clock counts from: the first time that anybody asks.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// A clock that never goes back: the system's, or one that a test moves by hand.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The system's monotonic clock.
    pub fn monotonic() -> Self {
        Clock(None)
    }

    /// A clock that stands still until [`advance`](Clock::advance) is called on it or on a clone of it.
    pub fn manual() -> Self {
        // Not at 0, which means "never" in the live state of a host.
        Clock(Some(Arc::new(AtomicU64::new(1))))
    }

    /// Moves a manual clock forward; the system's goes its own way.
    pub fn advance(&self, by: Duration) {
        if let Some(nanos) = &self.0 {
            nanos.fetch_add(as_nanos(by), Ordering::SeqCst);
        }
    }

    /// Nanoseconds since the origin, at least 1.
    pub(crate) fn now(&self) -> u64 {
        match &self.0 {
            Some(nanos) => nanos.load(Ordering::SeqCst),
            None => as_nanos(ORIGIN.get_or_init(Instant::now).elapsed()).max(1),
        }
    }
}

/// Nanoseconds of `duration`, at most those that fit.
pub(super) fn as_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
