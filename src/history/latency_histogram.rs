//! How long requests took, in fine steps, so that the median and the slowest hundredth of one second can be told.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Steps within each doubling: a quantile is off by one part in 2 × 8 at most.
const STEPS: usize = 8;

/// Doublings from 1 µs on, which is an hour and more; what takes longer counts as that.
const DOUBLINGS: usize = 32;

/// Counts of durations since they were last taken. Each counter stands for itself, so the weakest order will do.
#[derive(Debug)]
pub(super) struct LatencyHistogram([AtomicU32; STEPS * DOUBLINGS]);

/// Durations that were taken out.
#[derive(Debug)]
pub(super) struct LatencySnapshot([u32; STEPS * DOUBLINGS]);

impl Default for LatencyHistogram {
    /// None so far.
    fn default() -> Self {
        LatencyHistogram([const { AtomicU32::new(0) }; STEPS * DOUBLINGS])
    }
}

impl Default for LatencySnapshot {
    /// None.
    fn default() -> Self {
        LatencySnapshot([0; STEPS * DOUBLINGS])
    }
}

impl LatencyHistogram {
    /// Counts one.
    pub(super) fn count(&self, took: Duration) {
        self.0[step(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes out those that have been counted so far, and adds them to `taken`; how many they were.
    pub(super) fn take(&self, taken: &mut LatencySnapshot) -> u64 {
        let mut all = 0;
        for (counter, sum) in self.0.iter().zip(&mut taken.0) {
            // Most are 0, and a read is cheaper than a write.
            if counter.load(Ordering::Relaxed) > 0 {
                let count = counter.swap(0, Ordering::Relaxed);
                *sum = sum.saturating_add(count);
                all += u64::from(count);
            }
        }
        all
    }
}

impl LatencySnapshot {
    /// The duration that this share of them, 0 to 1, does not exceed; `None` if there are none.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let all: u64 = self.0.iter().copied().map(u64::from).sum();
        let rank = ((all as f64 * share).ceil() as u64).max(1);
        let mut sum = 0;
        let found = self.0.iter().position(|count| {
            sum += u64::from(*count);
            sum >= rank
        });
        found.map(middle)
    }
}

/// The step of a duration.
fn step(took: Duration) -> usize {
    let micros = took.as_micros().clamp(1, (1 << DOUBLINGS) - 1) as u64;
    let doubling = micros.ilog2() as usize;
    // From `STEPS` to twice as many, less one.
    let within = (micros * STEPS as u64) >> doubling;
    doubling * STEPS + within as usize - STEPS
}

/// The middle of a step.
fn middle(step: usize) -> Duration {
    let (doubling, within) = (step / STEPS, step % STEPS);
    let lowest = 2f64.powi(doubling as i32);
    let micros = lowest * (1.0 + (within as f64 + 0.5) / STEPS as f64);
    Duration::from_nanos((micros * 1e3) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_step_is_within_a_sixteenth_of_what_it_stands_for(micros in 8_u64..4_000_000_000) {
            let told = middle(step(Duration::from_micros(micros))).as_secs_f64() * 1e6;
            let off = (told - micros as f64).abs() / micros as f64;
            prop_assert!(off <= 1.0 / 16.0 + 1e-9, "{micros} µs told as {told}");
        }
    }

    #[test]
    fn the_longest_and_the_shortest_have_a_step() {
        assert_eq!(step(Duration::ZERO), 0);
        assert_eq!(step(Duration::MAX), STEPS * DOUBLINGS - 1);
    }

    #[test]
    fn quantiles_are_of_what_was_counted_since_they_were_taken() {
        let durations = LatencyHistogram::default();
        let take = || {
            let mut taken = LatencySnapshot::default();
            let count = durations.take(&mut taken);
            (taken, count)
        };
        assert_eq!(take().0.quantile(0.5), None);
        for millis in 1..=100 {
            durations.count(Duration::from_millis(millis));
        }
        let (taken, count) = take();
        assert_eq!(count, 100);
        for (share, millis) in [(0.5, 50.0), (0.99, 99.0), (0.0, 1.0), (1.0, 100.0)] {
            let told = taken.quantile(share).unwrap().as_secs_f64() * 1e3;
            assert!((told / millis - 1.0).abs() < 0.07, "{share}: {told}");
        }
        assert_eq!(take().0.quantile(0.5), None);
    }
}
