//! A histogram of latencies with fine buckets, for the median and the 99th percentile of a single second.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Buckets within each doubling: a quantile is off by one part in 2 × 8 at most.
const STEPS: usize = 8;

/// Doublings from 1 µs, up to more than an hour; longer durations count in the last bucket.
const DOUBLINGS: usize = 32;

/// Counts durations until they are taken. Counters are independent of each other, so relaxed ordering suffices.
///
/// Not hdrhistogram: that records through `&mut self`. Here any thread counts with one relaxed addition, in 1 KiB.
#[derive(Debug)]
pub(super) struct LatencyHistogram([AtomicU32; STEPS * DOUBLINGS]);

/// The durations taken from a histogram.
#[derive(Debug)]
pub(super) struct LatencySnapshot([u32; STEPS * DOUBLINGS]);

impl Default for LatencyHistogram {
    /// An empty histogram.
    fn default() -> Self {
        LatencyHistogram([const { AtomicU32::new(0) }; STEPS * DOUBLINGS])
    }
}

impl LatencyHistogram {
    /// Counts one duration.
    pub(super) fn count(&self, duration: Duration) {
        self.0[bucket(duration)].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes all counts.
    pub(super) fn take(&self) -> LatencySnapshot {
        let mut taken = LatencySnapshot([0; STEPS * DOUBLINGS]);
        for (counter, count) in self.0.iter().zip(&mut taken.0) {
            // Most counters are 0, and a read is cheaper than a write.
            if counter.load(Ordering::Relaxed) > 0 {
                *count = counter.swap(0, Ordering::Relaxed);
            }
        }
        taken
    }
}

impl LatencySnapshot {
    /// The duration that this share of all durations, 0 to 1, does not exceed; `None` if there are none.
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

/// The bucket of a duration.
fn bucket(duration: Duration) -> usize {
    let micros = duration.as_micros().clamp(1, (1 << DOUBLINGS) - 1) as u64;
    let doubling = micros.ilog2() as usize;
    // From `STEPS` to 2 × `STEPS` - 1.
    let within = (micros * STEPS as u64) >> doubling;
    doubling * STEPS + within as usize - STEPS
}

/// The middle of a bucket.
fn middle(bucket: usize) -> Duration {
    let (doubling, within) = (bucket / STEPS, bucket % STEPS);
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
        fn a_bucket_is_within_a_sixteenth_of_its_values(micros in 8_u64..4_000_000_000) {
            let value = middle(bucket(Duration::from_micros(micros))).as_secs_f64() * 1e6;
            let error = (value - micros as f64).abs() / micros as f64;
            prop_assert!(error <= 1.0 / 16.0 + 1e-9, "{micros} µs counted as {value}");
        }
    }

    #[test]
    fn the_longest_and_the_shortest_have_a_bucket() {
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), STEPS * DOUBLINGS - 1);
    }

    #[test]
    fn quantiles_cover_the_durations_since_the_last_take() {
        let durations = LatencyHistogram::default();
        assert_eq!(durations.take().quantile(0.5), None);
        for millis in 1..=100 {
            durations.count(Duration::from_millis(millis));
        }
        let taken = durations.take();
        for (share, millis) in [(0.5, 50.0), (0.99, 99.0), (0.0, 1.0), (1.0, 100.0)] {
            let value = taken.quantile(share).unwrap().as_secs_f64() * 1e3;
            assert!((value / millis - 1.0).abs() < 0.07, "{share}: {value}");
        }
        assert_eq!(durations.take().quantile(0.5), None);
    }
}
