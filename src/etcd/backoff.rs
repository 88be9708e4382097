//! The delay before the next attempt after a failure.

use std::time::Duration;

/// The delay after the first failure.
const FIRST: Duration = Duration::from_millis(100);

/// The longest delay. Balancers are few, and all are to know what was changed within two seconds after etcd has a majority
/// again.
const LONGEST: Duration = Duration::from_secs(1);

/// Delays that double with each failure, each shortened by up to half of it, so that several balancers do not ask at the
/// same time when etcd is back.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The delay after one more failure. `jitter` is a random number.
    pub(super) fn next(&mut self, jitter: u32) -> Duration {
        let delay = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let share = 1.0 - 0.5 * f64::from(jitter) / f64::from(u32::MAX);
        delay.mul_f64(share).max(FIRST)
    }

    /// Begins anew after a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_are_bounded_and_grow(jitter: u32, count in 0..100_u32) {
            let mut backoff = Backoff { failures: count };
            let delay = backoff.next(jitter);
            prop_assert!(delay >= FIRST && delay <= LONGEST, "{delay:?}");
            prop_assert!(count < 7 || delay >= LONGEST / 2, "{delay:?}");
            backoff.reset();
            prop_assert_eq!(backoff.next(jitter), FIRST);
        }
    }
}
