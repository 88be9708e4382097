//! What is counted for Prometheus.
//!
//! Requests are counted where they end, by an [`Observer`] that has its counters at hand: by the number of the pool and
//! the host's position in it, so that no label is looked up on the path of a request. What has a value rather than a
//! history (requests in flight, weights, health) is read from the pools when somebody asks.
//!
//! Series are those of the pools and hosts that serve at the moment, so that hosts that leave disappear, whatever still
//! runs on them; the counts of those that stay go on over a reload. Labels have values from the configuration and from
//! fixed lists alone: nothing that a client sends becomes one.

mod counters;
mod family;
mod histogram;
mod observer;
mod pools;
mod process;
mod series;
mod series_registry;
mod traffic;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use prometheus::TextEncoder;

use crate::config::HostMetrics;
use crate::pool::Pool;
#[cfg(doc)]
use crate::record::Observer;
use crate::timestamp::Timestamp;

pub use counters::{HandshakeOutcome, MetricsCounters, RejectReason, ReloadOutcome};
pub use traffic::{PoolTraffic, Traffic};

/// What has a value rather than a history, asked for when it is needed.
pub trait MetricsSource: Debug + Send + Sync {
    /// The pools that serve, in the order of the configuration.
    fn pools(&self) -> Vec<Arc<Pool>>;

    /// The process.
    fn state(&self) -> ProcessState;
}

/// The state of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessState {
    /// Requests that have not ended.
    pub in_flight: u64,
    /// Clients' connections that are open.
    pub connections: u64,
    /// Those that each worker serves.
    pub worker_connections: Vec<usize>,
    /// Requests that ended in a panic so far.
    pub panics: u64,
    /// Lines of access logs that were lost so far.
    pub lost_lines: u64,
    /// Requests that the collector of traces has been told of so far.
    pub traced: u64,
    /// Those that it could not be told of.
    pub untraced: u64,
    /// The digest of the configuration in force.
    pub config_digest: String,
    /// When it was taken in.
    pub config_loaded: Timestamp,
    /// The files of certificates that clients are shown, with the Unix time at which each expires.
    pub certificate_expiries: Vec<(PathBuf, i64)>,
    /// How much is told of each host.
    pub host_metrics: HostMetrics,
}

/// Everything that is counted, to be read.
#[derive(Debug)]
pub struct Metrics {
    counts: Arc<MetricsCounters>,
    source: Box<dyn MetricsSource>,
}

impl Metrics {
    /// What `counts` has counted and `source` knows.
    pub fn new(counts: Arc<MetricsCounters>, source: impl MetricsSource + 'static) -> Self {
        Metrics {
            counts,
            source: Box::new(source),
        }
    }

    /// All of it in Prometheus' text format, version 0.0.4.
    ///
    /// # Errors
    /// If a value cannot be said in that format, which would be a mistake in this module.
    pub fn text(&self) -> prometheus::Result<String> {
        let (pools, state) = (self.source.pools(), self.source.state());
        let hosts = pools.iter().map(|pool| pool.members().len()).sum();
        let brief = is_brief(state.host_metrics, hosts);
        let mut families = self.counts.gather();
        families.extend(pools::families(&pools, &self.counts, brief));
        families.extend(process::families(&state));
        // A family of a setting that no pool has is empty, and the encoder takes that for an error.
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&families)
    }
}

/// From so many hosts on little is told of each, unless the configuration says otherwise: in full, 5,000 hosts would be
/// 40 MB at each scrape.
const MANY_HOSTS: usize = 500;

fn is_brief(wanted: HostMetrics, hosts: usize) -> bool {
    match wanted {
        HostMetrics::Auto => hosts >= MANY_HOSTS,
        HostMetrics::Full => false,
        HostMetrics::Brief => true,
    }
}
