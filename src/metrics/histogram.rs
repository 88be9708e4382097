//! A histogram of durations in Prometheus buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of all buckets but the last, which has none: fine for the latencies of nearby hosts, up to the
/// default timeout of a host.
pub(super) const BOUNDS: [Duration; 17] = [
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// Counts durations by bucket. The counts are independent of each other, so relaxed ordering suffices.
///
/// Prometheus needs fixed bounds, so this is not hdrhistogram. The `prometheus` crate's own histogram keeps each count
/// twice, and a name and help text with every series: too much for thousands of hosts.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// The sum of all durations in microseconds: in nanoseconds, a hundred thousand tunnels would overflow it within
    /// days.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub(super) fn observe(&self, time: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < time);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// Adds the counts of another histogram.
    pub(super) fn merge(&self, other: &Histogram) {
        let HistogramSnapshot { buckets, sum } = other.read();
        for (count, more) in self.buckets.iter().zip(buckets) {
            count.fetch_add(more, Ordering::Relaxed);
        }
        self.sum.fetch_add(sum, Ordering::Relaxed);
    }

    /// The current counts.
    pub(super) fn read(&self) -> HistogramSnapshot {
        let mut buckets = [0; BUCKETS];
        for (read, count) in buckets.iter_mut().zip(&self.buckets) {
            *read = count.load(Ordering::Relaxed);
        }
        HistogramSnapshot {
            buckets,
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

/// The counts of a histogram at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HistogramSnapshot {
    buckets: [u64; BUCKETS],
    /// In microseconds.
    sum: u64,
}

impl HistogramSnapshot {
    /// The number of durations.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all durations.
    pub(super) fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    /// The count of each bucket, in the order of [`BOUNDS`]; the last one is above all bounds.
    pub(super) fn buckets(&self) -> &[u64] {
        &self.buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_and_belong_to_the_bucket_below() {
        assert!(BOUNDS.is_sorted());
        for (index, bound) in BOUNDS.into_iter().enumerate() {
            let histogram = Histogram::default();
            histogram.observe(bound);
            histogram.observe(bound + Duration::from_nanos(1));
            let read = histogram.read();
            assert_eq!(
                (read.buckets()[index], read.buckets()[index + 1]),
                (1, 1),
                "{bound:?}"
            );
        }
    }

    #[test]
    fn counts_and_sums_go_together() {
        let histogram = Histogram::default();
        for millis in [1, 2, 3_600_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let read = histogram.read();
        assert_eq!(read.count(), 3);
        assert_eq!(read.sum(), Duration::from_millis(3_600_003));
        assert_eq!(read.buckets().last(), Some(&1));
    }
}
