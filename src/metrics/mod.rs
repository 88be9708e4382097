//! Prometheus metrics.
//!
//! Requests are counted when they end, by an [`Observer`] that finds its counters by the number of the pool and the
//! host's position in it, so no label is looked up on the path of a request. What the pools count themselves (retries,
//! bytes, checks, ejections) and gauges (requests in flight, weights, health) are read from them at each scrape.
//!
//! There are series for the active pools and hosts only: a removed host disappears even with requests in flight. Counts
//! of the others survive a reload. Label values come from the configuration and from fixed lists: nothing that a client
//! sends becomes a label.

mod counters;
mod family;
mod histogram;
mod observer;
mod outcomes;
mod pools;
mod process;
mod series;
mod series_registry;
mod sources;

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus::TextEncoder;

use crate::config::{HostMetrics, Validity};
use crate::pool::Pool;
#[cfg(doc)]
use crate::record::Observer;
use crate::timestamp::Timestamp;

pub use counters::{MetricsCounters, TicketCounters};
pub use outcomes::{
    CertificateOutcome, ClusterChangeOutcome, HandshakeOutcome, OrderOutcome, RejectReason,
    ReloadOutcome,
};

/// The source of gauges, which are read at each scrape.
pub trait MetricsSource: Debug + Send + Sync {
    /// The active pools, in the order of the configuration.
    fn pools(&self) -> Vec<Arc<Pool>>;

    /// The state of the process.
    fn state(&self) -> ProcessState;
}

/// The state of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessState {
    /// Requests in flight, refused ones included.
    pub in_flight: u64,
    /// Open connections of clients.
    pub connections: u64,
    /// Open connections of each worker.
    pub worker_connections: Vec<usize>,
    /// Requests that ended in a panic.
    pub panics: u64,
    /// Lost lines of access logs.
    pub lost_lines: u64,
    /// Requests that were exported to the trace collector.
    pub traced: u64,
    /// Requests that could not be exported to the trace collector.
    pub untraced: u64,
    /// TLS handshakes of clients that are in progress.
    pub handshakes: u64,
    /// The digest of the active configuration.
    pub config_digest: String,
    /// When the active configuration was loaded.
    pub config_loaded: Timestamp,
    /// The files of certificates, with the Unix times between which each is valid.
    pub certificates: Vec<(PathBuf, Validity)>,
    /// The files of revocation lists, with the Unix time at which each expires.
    pub revocation_lists: Vec<(PathBuf, i64)>,
    /// Changed files of TLS that are not used, because something is wrong with them.
    pub refused_certificates: usize,
    /// The certificates that are ordered by ACME.
    pub orders: Vec<OrderState>,
    /// The sources of hosts.
    pub sources: Vec<HostSourceState>,
    /// The cluster of the process; `None`: it is alone.
    pub cluster: Option<ClusterState>,
    /// What differs from the file and the binary on disk.
    pub drift: DriftState,
    /// How many metrics each host has.
    pub host_metrics: HostMetrics,
}

/// What differs between the process and what is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriftState {
    /// Changes of operators that the file does not have.
    pub operator_changes: usize,
    /// Whether the file is another one than was loaded, or cannot be read.
    pub is_file_edited: bool,
    /// Whether the binary is another one than runs, or missing.
    pub is_binary_replaced: bool,
}

/// The state of a cluster, as a member knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterState {
    /// Live members, this one included; without etcd the last number that was known.
    pub members: u32,
    /// Whether etcd is followed.
    pub is_connected: bool,
}

/// The state of a certificate that is ordered by ACME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderState {
    /// The name that it is for.
    pub domain: String,
    /// When the certificate is to be renewed. `None`: no certificate has been issued.
    pub renewal: Option<Timestamp>,
    /// How many orders have failed since the last that succeeded.
    pub failures: u32,
}

/// What is known from a source of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSourceState {
    /// Its kind and its name.
    pub source: String,
    /// The number of its hosts.
    pub hosts: usize,
    /// How long ago it told all of them; `None`: it never did.
    pub age: Option<Duration>,
    /// Whether its hosts are those that an earlier process knew, and it has not answered since.
    pub is_stale: bool,
    /// Its answers with all hosts.
    pub good_answers: u64,
    /// Its answers that failed, were empty or incomplete.
    pub failed_answers: u64,
}

/// All metrics, for reading.
#[derive(Debug)]
pub struct Metrics {
    counts: Arc<MetricsCounters>,
    source: Box<dyn MetricsSource>,
}

impl Metrics {
    /// The metrics of `counts` and `source`.
    pub fn new(counts: Arc<MetricsCounters>, source: impl MetricsSource + 'static) -> Self {
        Metrics {
            counts,
            source: Box::new(source),
        }
    }

    /// All metrics in Prometheus' text format, version 0.0.4.
    ///
    /// # Errors
    /// If a value cannot be represented in that format, which would be a bug in this module.
    pub fn text(&self) -> prometheus::Result<String> {
        let (pools, state) = (self.source.pools(), self.source.state());
        let hosts = pools.iter().map(|pool| pool.members().len()).sum();
        let brief = is_brief(state.host_metrics, hosts);
        let mut families = self.counts.gather();
        families.extend(pools::families(&pools, &self.counts, brief));
        families.extend(process::families(&state));
        families.extend(sources::families(&state.sources));
        // A family is empty if no pool uses its feature. The encoder takes that for an error.
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&families)
    }
}

/// From this many hosts on, each host has fewer metrics, unless the configuration says otherwise: in full, 5,000 hosts
/// would make 40 MB at each scrape.
const MANY_HOSTS: usize = 500;

fn is_brief(wanted: HostMetrics, hosts: usize) -> bool {
    match wanted {
        HostMetrics::Auto => hosts >= MANY_HOSTS,
        HostMetrics::Full => false,
        HostMetrics::Brief => true,
    }
}
