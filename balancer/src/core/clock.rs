//! A clock that tests can control.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The origin of the monotonic clock: the time of its first use.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// A clock that never goes back: the system's, or, with the feature `test-util`, one that a test or a simulation advances.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The system's monotonic clock.
    pub fn monotonic() -> Self {
        Clock(None)
    }

    /// A clock that stands still until [`advance`](Clock::advance) is called on it or on a clone of it.
    #[cfg(any(test, feature = "test-util"))]
    pub fn manual() -> Self {
        // Not at 0, which means "never" in a host's live state.
        Clock(Some(Arc::new(AtomicU64::new(1))))
    }

    /// Advances a manual clock; does nothing to the system's.
    #[cfg(any(test, feature = "test-util"))]
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

/// Nanoseconds of `duration`, saturating.
pub(super) fn as_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
