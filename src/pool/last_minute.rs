//! The last minute of counters that only grow.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Finished steps of the last minute. The current step comes on top, so the counts cover 55 to 60 seconds.
const STEPS: usize = 11;

/// Requests and failed ones: of a minute, or since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// All requests.
    pub requests: u64,
    /// Failed requests. They may have begun before the minute.
    pub errors: u64,
}

/// By how much the counters of a pool or a host grew in the last minute. Locked by the timer and by status requests
/// only, never on the path of a request.
#[derive(Debug)]
pub struct LastMinute(Mutex<Minute>);

/// The last minute in steps.
#[derive(Debug)]
struct Minute {
    /// The counters at the begin of the current step.
    read: RequestCounts,
    /// Requests and errors of each finished step. 32 bits, because there may be thousands of hosts.
    steps: [(u32, u32); STEPS],
    /// The oldest step.
    oldest: usize,
}

impl LastMinute {
    /// The interval at which [`Pool::step_last_minute`](super::Pool::step_last_minute) must be called.
    pub const STEP: Duration = Duration::from_secs(5);

    /// A minute without requests. The counters are at `now`.
    pub(super) fn new(now: RequestCounts) -> Self {
        LastMinute(Mutex::new(Minute {
            read: now,
            steps: [(0, 0); STEPS],
            oldest: 0,
        }))
    }

    /// The counts of the last minute. The counters are at `now`.
    pub(super) fn until(&self, now: RequestCounts) -> RequestCounts {
        let minute = self.lock();
        let mut recent = now.since(minute.read);
        for &(requests, errors) in &minute.steps {
            recent.requests += u64::from(requests);
            recent.errors += u64::from(errors);
        }
        recent
    }

    /// Ends the current step and forgets the oldest. The counters are at `now`.
    pub(super) fn step(&self, now: RequestCounts) {
        let mut minute = self.lock();
        let grown = now.since(minute.read);
        let saturated = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let oldest = minute.oldest;
        minute.steps[oldest] = (saturated(grown.requests), saturated(grown.errors));
        minute.oldest = (oldest + 1) % STEPS;
        minute.read = now;
    }

    fn lock(&self) -> MutexGuard<'_, Minute> {
        // A panic cannot leave the value half changed: no code under the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestCounts {
    fn since(self, before: RequestCounts) -> RequestCounts {
        RequestCounts {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(requests: u64, errors: u64) -> RequestCounts {
        RequestCounts { requests, errors }
    }

    #[test]
    fn the_last_minute_forgets_what_is_older() {
        let mut now = counts(100, 10);
        let minute = LastMinute::new(now);
        assert_eq!(minute.until(now), counts(0, 0));
        now = counts(101, 11);
        // At once, not only at the end of a step.
        assert_eq!(minute.until(now), counts(1, 1));
        for _ in 0..STEPS {
            minute.step(now);
            now.requests += 1;
        }
        assert_eq!(minute.until(now), counts(1 + STEPS as u64, 1));
        minute.step(now);
        assert_eq!(minute.until(now), counts(STEPS as u64, 0));
        for _ in 0..=STEPS {
            minute.step(now);
        }
        assert_eq!(minute.until(now), counts(0, 0));
        let covered = LastMinute::STEP * (STEPS as u32 + 1);
        assert_eq!(covered, Duration::from_secs(60));
    }
}
