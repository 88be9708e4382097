//! A mean of samples that decay over time.

use std::time::Duration;

/// After this time a sample's weight is 1/e. Long enough for a few dozen samples of a host that gets a hundredth of the
/// usual traffic, short enough that a host that was slow is no longer penalized after seconds.
const DECAY: Duration = Duration::from_secs(5);

/// The mean of samples weighted by their age. Without new samples it does not change.
#[derive(Debug, Default)]
pub(super) struct DecayingMean {
    /// Nanoseconds.
    value: f64,
    /// The sum of the samples' weights, at the time of the last one.
    weight: f64,
    /// When the last sample was added, nanoseconds of the clock.
    last: u64,
}

impl DecayingMean {
    /// Adds a sample; returns the mean in nanoseconds.
    pub(super) fn add(&mut self, now: u64, latency: Duration) -> f64 {
        let elapsed = now.saturating_sub(self.last) as f64;
        self.last = self.last.max(now);
        self.weight = self.weight * (-elapsed / DECAY.as_nanos() as f64).exp() + 1.0;
        self.value += (latency.as_nanos() as f64 - self.value) / self.weight;
        self.value
    }
}
