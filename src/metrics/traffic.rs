//! The traffic counters of a pool for readers other than Prometheus.

use std::sync::Arc;

use super::counters::MetricsCounters;
use super::series::PoolSeries;

/// The counters of a pool, shared with the metrics.
#[derive(Debug, Clone)]
pub struct PoolTraffic(Arc<PoolSeries>);

/// The values of a pool's traffic counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Attempts beyond the first of each request.
    pub retries: u64,
    /// Body bytes of requests.
    pub received: u64,
    /// Body bytes of responses.
    pub sent: u64,
}

impl MetricsCounters {
    /// The counters of a pool.
    pub fn traffic(&self, pool: &str) -> PoolTraffic {
        PoolTraffic(self.series().lock().pool(pool))
    }
}

impl PoolTraffic {
    /// The current values.
    pub fn read(&self) -> Traffic {
        Traffic {
            retries: self.0.retries.get(),
            received: self.0.received.get(),
            sent: self.0.sent.get(),
        }
    }
}
