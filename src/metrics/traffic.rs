//! What a pool's requests have come to, for readers other than Prometheus: the same counters, not a second set.

use std::sync::Arc;

use super::counters::MetricsCounters;
use super::series::PoolSeries;

/// The counters of a pool.
#[derive(Debug, Clone)]
pub struct PoolTraffic(Arc<PoolSeries>);

/// Their values at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Attempts beyond the first of each request.
    pub retries: u64,
    /// Bytes of the bodies of requests.
    pub received: u64,
    /// Bytes of the bodies of answers.
    pub sent: u64,
}

impl MetricsCounters {
    /// The counters of a pool.
    pub fn traffic(&self, pool: &str) -> PoolTraffic {
        PoolTraffic(self.series().lock().pool(pool))
    }
}

impl PoolTraffic {
    /// Their values now.
    pub fn read(&self) -> Traffic {
        Traffic {
            retries: self.0.retries.get(),
            received: self.0.received.get(),
            sent: self.0.sent.get(),
        }
    }
}
