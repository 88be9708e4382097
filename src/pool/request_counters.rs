//! Counters of requests and failures: since the process began, and in the last minute.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Finished steps of the last minute. The current step comes on top, so the counts cover 55 to 60 seconds.
const STEPS: usize = 11;

/// Counters that only grow. They are for people and independent of each other, so relaxed ordering suffices.
#[derive(Debug, Default)]
pub struct RequestCounters {
    requests: AtomicU64,
    errors: AtomicU64,
    /// Locked by the timer and by status requests only, never on the path of a request.
    minute: Mutex<Minute>,
}

/// Requests of the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentCounts {
    /// All requests.
    pub requests: u64,
    /// Failed requests. They may have begun before the minute.
    pub errors: u64,
}

/// The last minute in steps.
#[derive(Debug, Default)]
struct Minute {
    /// The counts at the begin of the current step.
    read: RecentCounts,
    /// Requests and errors of each finished step. 32 bits, because there may be thousands of hosts.
    steps: [(u32, u32); STEPS],
    /// The oldest step.
    oldest: usize,
}

impl RequestCounters {
    /// The interval at which [`step`](Self::step) must be called.
    pub const STEP: Duration = Duration::from_secs(5);

    /// Counts a request.
    pub fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failed request.
    pub fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests since the process began.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Failed requests since the process began.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// The counts of the last minute.
    pub fn last_minute(&self) -> RecentCounts {
        let now = self.read();
        let minute = self.minute();
        let mut recent = now.since(minute.read);
        for &(requests, errors) in &minute.steps {
            recent.requests += u64::from(requests);
            recent.errors += u64::from(errors);
        }
        recent
    }

    /// Ends the current step and forgets the oldest.
    pub fn step(&self) {
        let now = self.read();
        let mut minute = self.minute();
        let grown = now.since(minute.read);
        let saturated = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let oldest = minute.oldest;
        minute.steps[oldest] = (saturated(grown.requests), saturated(grown.errors));
        minute.oldest = (oldest + 1) % STEPS;
        minute.read = now;
    }

    fn read(&self) -> RecentCounts {
        RecentCounts {
            requests: self.requests(),
            errors: self.errors(),
        }
    }

    fn minute(&self) -> MutexGuard<'_, Minute> {
        // A panic cannot leave the value half changed: no code under the lock panics.
        self.minute.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecentCounts {
    fn since(self, before: RecentCounts) -> RecentCounts {
        RecentCounts {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_forgets_what_is_older() {
        let request_counters = RequestCounters::default();
        let recent = || {
            let RecentCounts { requests, errors } = request_counters.last_minute();
            (requests, errors)
        };
        assert_eq!(recent(), (0, 0));
        request_counters.count();
        request_counters.count_error();
        // At once, not only at the end of a step.
        assert_eq!(recent(), (1, 1));
        for _ in 0..STEPS {
            request_counters.step();
            request_counters.count();
        }
        assert_eq!(recent(), (1 + STEPS as u64, 1));
        request_counters.step();
        assert_eq!(recent(), (STEPS as u64, 0));
        for _ in 0..=STEPS {
            request_counters.step();
        }
        assert_eq!(recent(), (0, 0));
        assert_eq!(
            (request_counters.requests(), request_counters.errors()),
            (1 + STEPS as u64, 1)
        );
        let covered = RequestCounters::STEP * (STEPS as u32 + 1);
        assert_eq!(covered, Duration::from_secs(60));
    }
}
