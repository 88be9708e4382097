//! Latencies, and their quantiles.

use std::time::Duration;

/// The latencies of requests.
#[derive(Debug, Default)]
pub(super) struct Latencies(Vec<u64>);

/// What is told of them, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct LatencyReport {
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latencies {
    /// Adds one in nanoseconds.
    pub(super) fn add(&mut self, nanos: u64) {
        self.0.push(nanos);
    }

    /// `None` if there are none.
    pub(super) fn report(mut self) -> Option<LatencyReport> {
        self.0.sort_unstable();
        let max = *self.0.last()?;
        let sum: u128 = self.0.iter().map(|nanos| u128::from(*nanos)).sum();
        Some(LatencyReport {
            mean_ms: sum as f64 / self.0.len() as f64 / 1e6,
            p50_ms: self.quantile(0.5),
            p99_ms: self.quantile(0.99),
            p999_ms: self.quantile(0.999),
            max_ms: millis(max),
        })
    }

    /// What this share of the sorted latencies does not exceed.
    fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        let found = self.0.get(rank.saturating_sub(1));
        millis(found.copied().unwrap_or_default())
    }
}

fn millis(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_nearest_rank() {
        let mut latencies = Latencies::default();
        assert_eq!(Latencies::default().report(), None);
        for number in (1..=1_000).rev() {
            latencies.add(number * 1_000_000);
        }
        let report = latencies.report().expect("there are some");
        let quantiles = [report.p50_ms, report.p99_ms, report.p999_ms, report.max_ms];
        assert_eq!(quantiles, [500.0, 990.0, 999.0, 1_000.0]);
        assert_eq!(report.mean_ms, 500.5);
    }
}
