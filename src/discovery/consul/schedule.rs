//! When Consul is asked again, and with which index.

use std::time::Duration;

/// The least time from the beginning of a query to that of the next one. A service that changes all the time answers each
/// query at once.
const MIN_INTERVAL: Duration = Duration::from_millis(250);

/// The time to the next query if Consul gives no index by which it could block.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The time after the first failure; it doubles with each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// The index of the last answer, and the time of the next query.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// `None`: the next query does not block.
    index: Option<u64>,
    failures: u32,
}

impl Schedule {
    /// The index that the next query waits for to change.
    pub(super) fn index(&self) -> Option<u64> {
        self.index
    }

    /// Takes the index of a good answer, 0 if it had none. Returns the least time from the beginning of this query to that of
    /// the next.
    pub(super) fn answered(&mut self, index: u64) -> Duration {
        self.failures = 0;
        let before = self.index.take();
        match index {
            0 => POLL_INTERVAL,
            // The servers were restored or restarted: a query with the higher index would block for what is long past.
            _ if before.is_some_and(|before| index < before) => MIN_INTERVAL,
            _ => {
                self.index = Some(index);
                MIN_INTERVAL
            }
        }
    }

    /// The time to the next query after a failure, or after an answer that may be old. It does not block, so that what has
    /// changed in the meantime shows at once. `jitter` is a random number.
    pub(super) fn failed(&mut self, jitter: u32) -> Duration {
        self.index = None;
        let delay = FIRST_BACKOFF.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let share = 1.0 - 0.5 * f64::from(jitter) / f64::from(u32::MAX);
        delay.min(MAX_BACKOFF).mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_index_that_goes_back_or_is_missing_is_not_waited_for() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.index(), None);
        assert_eq!(schedule.answered(7), MIN_INTERVAL);
        assert_eq!(schedule.index(), Some(7));
        assert_eq!(schedule.answered(7), MIN_INTERVAL);
        assert_eq!(schedule.index(), Some(7));
        assert_eq!(schedule.answered(3), MIN_INTERVAL);
        assert_eq!(schedule.index(), None);
        assert_eq!(schedule.answered(3), MIN_INTERVAL);
        assert_eq!(schedule.index(), Some(3));
        assert_eq!(schedule.answered(0), POLL_INTERVAL);
        assert_eq!(schedule.index(), None);
    }

    proptest! {
        #[test]
        fn failures_are_asked_again_less_and_less_often(jitters in proptest::collection::vec(any::<u32>(), 1..40)) {
            let mut schedule = Schedule::default();
            schedule.answered(9);
            let mut longest = FIRST_BACKOFF;
            for jitter in jitters {
                let delay = schedule.failed(jitter);
                prop_assert_eq!(schedule.index(), None);
                prop_assert!(delay <= longest && delay >= longest / 2, "{:?}", delay);
                longest = (longest * 2).min(MAX_BACKOFF);
            }
            schedule.answered(1);
            prop_assert_eq!(schedule.failed(0), FIRST_BACKOFF);
        }
    }
}
