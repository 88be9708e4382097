//! A mean that forgets.

use std::time::Duration;

/// After this time a sample's weight is 1/e. Long enough for a few dozen answers of a host that gets a hundredth of the
/// usual traffic, short enough that a host that was slow is forgiven within seconds.
const DECAY: Duration = Duration::from_secs(5);

/// The plain mean of samples, each weighed by its age. Without new samples it stays where it is.
#[derive(Debug, Default)]
pub(super) struct DecayingMean {
    /// Nanoseconds.
    value: f64,
    /// The samples' weights together, at the time of the last one.
    weight: f64,
    /// When the last sample came, nanoseconds of the clock.
    last: u64,
}

impl DecayingMean {
    /// Takes in a sample; returns the mean in nanoseconds.
    pub(super) fn add(&mut self, now: u64, latency: Duration) -> f64 {
        let elapsed = now.saturating_sub(self.last) as f64;
        self.last = self.last.max(now);
        self.weight = self.weight * (-elapsed / DECAY.as_nanos() as f64).exp() + 1.0;
        self.value += (latency.as_nanos() as f64 - self.value) / self.weight;
        self.value
    }
}
