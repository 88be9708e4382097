//! What is remembered of failed orders, and when the next one may be made.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The time after the first failure. It doubles with each further one. Let's Encrypt permits five failed validations of a
/// name in an hour.
const FIRST_DELAY: Duration = Duration::from_secs(60);

/// The longest time, so that a certificate of a few hours gets several attempts in the last third of its life.
const MAX_DELAY: Duration = Duration::from_secs(60 * 60);

/// The longest time that an authority can ask for; its limits are by the week.
const MAX_ASKED_DELAY: Duration = Duration::from_secs(8 * 24 * 60 * 60);

/// Failed orders of a certificate, since the last one that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    /// How many there were.
    pub(super) count: u32,
    /// The Unix time of the next attempt.
    pub(super) retry_at: i64,
    /// Whether the authority has asked for that time.
    pub(super) is_asked: bool,
    /// The error of the last one.
    pub(super) error: String,
}

impl Failure {
    /// One more failure after `before`. `asked` is the time that the authority wants to pass until the next attempt, and
    /// `jitter` is a number from 0 to 2^32.
    pub(super) fn after(
        before: Option<&Failure>,
        error: String,
        asked: Option<Duration>,
        now: i64,
        jitter: u32,
    ) -> Self {
        let count = before.map_or(0, |before| before.count).saturating_add(1);
        let own = delay(count, jitter);
        let asked = asked.map(|asked| asked.min(MAX_ASKED_DELAY));
        let wait = asked.map_or(own, |asked| asked.max(own));
        Failure {
            count,
            retry_at: now.saturating_add(wait.as_secs() as i64),
            is_asked: asked.is_some_and(|asked| asked >= own),
            error,
        }
    }

    /// Whether the next attempt may be made. `is_urgent`: an operator has changed something since, so only a time counts
    /// that the authority has asked for.
    pub(super) fn permits_attempt(&self, now: i64, is_urgent: bool) -> bool {
        // The clock was ahead when the failure was written.
        let is_absurd = self.retry_at > now.saturating_add(MAX_ASKED_DELAY.as_secs() as i64);
        self.retry_at <= now || is_absurd || (is_urgent && !self.is_asked)
    }
}

/// The time after a number of failures: 80 to 120 % of the doubled one.
pub(super) fn delay(count: u32, jitter: u32) -> Duration {
    let doublings = count.saturating_sub(1).min(16);
    let delay = FIRST_DELAY.saturating_mul(1 << doublings).min(MAX_DELAY);
    delay.mul_f64(0.8 + 0.4 * f64::from(jitter) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIDDLE: u32 = u32::MAX / 2;

    fn failure(before: Option<&Failure>, asked: Option<u64>) -> Failure {
        let asked = asked.map(Duration::from_secs);
        Failure::after(before, "error".to_owned(), asked, 1_000, MIDDLE)
    }

    #[test]
    fn the_time_between_attempts_doubles_up_to_an_hour() {
        let mut last = None;
        let mut waits = Vec::new();
        for _ in 0..9 {
            let next = failure(last.as_ref(), None);
            waits.push((next.retry_at - 1_000 + 30) / 60);
            last = Some(next);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_time_that_the_authority_asks_for_is_respected() {
        let asked = failure(None, Some(7_200));
        assert_eq!(asked.retry_at, 1_000 + 7_200);
        assert!(!asked.permits_attempt(8_199, true));
        assert!(asked.permits_attempt(8_200, false));
        // A shorter time is no reason to hurry.
        let hurried = failure(None, Some(1));
        assert!(hurried.retry_at > 1_050 && !hurried.is_asked);
        assert!(hurried.permits_attempt(1_001, true));
        assert!(!hurried.permits_attempt(1_001, false));
    }

    proptest! {
        #[test]
        fn there_always_is_a_next_attempt(count: u32, asked: Option<u64>, jitter: u32) {
            let before = Failure { count, retry_at: 0, is_asked: false, error: String::new() };
            let asked = asked.map(Duration::from_secs);
            let next = Failure::after(Some(&before), String::new(), asked, 0, jitter);
            prop_assert!((48..=MAX_ASKED_DELAY.as_secs() as i64).contains(&next.retry_at));
        }
    }
}
