//! The API's view of the process: what it reads from it, and the changes that it requests.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::drift::Drift;
use crate::acme::AcmeCertificate;
use crate::cluster::ClusterStatus;
use crate::config::{Config, Host};
use crate::discovery::SourceStatus;
use crate::event_log::EventLog;
use crate::history::History;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::proxy::{ExplainError, ExplainRequest, RequestExplanation};
use crate::timestamp::Timestamp;
use ballast_balancer::HostId;

/// The running process, as the API uses it.
#[async_trait]
pub trait ProcessHandle: Debug + Send + Sync {
    /// The configuration that is in force.
    fn loaded_config(&self) -> Arc<LoadedConfig>;

    /// The active pools, in the order of the configuration.
    fn pools(&self) -> Vec<Arc<Pool>>;

    /// What is known from the sources of each pool that has some, by the name of the pool, in the order of the
    /// configuration.
    fn sources(&self) -> HashMap<String, Vec<SourceStatus>>;

    /// The certificates that are ordered by ACME.
    fn acme(&self) -> Arc<Vec<AcmeCertificate>>;

    /// The cluster that the process is a member of; `None`: it is alone.
    fn cluster(&self) -> Option<ClusterStatus>;

    /// What differs from the file and the binary on disk.
    fn drift(&self) -> Drift;

    /// The host that a request would be sent to, and the reason.
    ///
    /// # Errors
    /// The request names a pool or host that does not exist, or is invalid.
    fn explain(&self, request: &ExplainRequest) -> Result<RequestExplanation, ExplainError>;

    /// Readiness, and the counts of requests and connections.
    fn load(&self) -> ProcessLoad;

    /// The metrics of the process.
    fn metrics(&self) -> &Arc<Metrics>;

    /// The recent events.
    fn event_log(&self) -> &Arc<EventLog>;

    /// The samples of each pool over the last minutes.
    fn history(&self) -> &Arc<History>;

    /// A permit for a change. The caller holds it until the change is in force.
    ///
    /// # Errors
    /// A handover is in progress: the successor would not learn of a change made now.
    fn permit(&self) -> Result<HeldPermit, ChangeError>;

    /// Applies an operator's change to the pool of this name; returns once it is in force.
    ///
    /// # Errors
    /// The change was refused; nothing has changed.
    async fn change(&self, pool: &str, change: PoolChange) -> Result<(), ChangeError>;
}

/// Permission for one change; dropping it ends the change.
pub type HeldPermit = Box<dyn Debug + Send>;

/// A change to a pool that an operator requests at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolChange {
    /// Add a host. It gets its first request after its first successful check.
    Add(Host),
    /// Remove a host: it gets no new requests and no checks; its requests in flight may finish.
    Remove {
        /// The host to remove.
        host: HostId,
        /// Remove it even if no other host is usable.
        force: bool,
    },
    /// Change the weight of a host.
    Weigh {
        /// The host to change.
        host: HostId,
        /// The new weight, at most [`MAX_WEIGHT`](ballast_balancer::MAX_WEIGHT).
        weight: u32,
    },
    /// Drain a host, or undo that.
    Drain {
        /// The host.
        host: HostId,
        /// Whether it is to be drained.
        drained: bool,
    },
    /// Begin maintenance of the pool, or change its settings.
    BeginMaintenance(MaintenanceSettings),
    /// End the maintenance of the pool.
    EndMaintenance,
}

/// What an operator says about the maintenance of a pool. What is left out is as in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaintenanceSettings {
    /// What clients read where there is no page.
    pub message: Option<String>,
    /// The time for Retry-After, as in a file: `10m`.
    pub retry_after: Option<String>,
    /// Networks or addresses of clients that are served all the same.
    pub allow: Vec<String>,
}

/// Why a change was refused; each variant holds one line for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeError {
    /// The pool or host does not exist.
    Unknown(String),
    /// A value of the change is not valid.
    Invalid(String),
    /// The change conflicts with the current state.
    Conflict(String),
    /// The process cannot apply it now; the client may retry.
    Busy(String),
}

/// The configuration in force, and where it came from.
#[derive(Debug)]
pub struct LoadedConfig {
    /// The configuration.
    pub config: Config,
    /// Its file; `None` for the built-in configuration of the demo.
    pub file: Option<PathBuf>,
    /// When it was loaded.
    pub loaded: Timestamp,
    /// Changed files of certificates that are not used, each with the reason.
    pub refused_certificates: BTreeMap<PathBuf, String>,
}

/// Readiness and counts of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessLoad {
    /// Whether it is ready for requests.
    pub ready: bool,
    /// Whether it is shutting down and ends with its last request.
    pub draining: bool,
    /// Requests in flight.
    pub in_flight: u64,
    /// Open client connections.
    pub connections: u64,
    /// Requests that ended in a panic since the process started.
    pub panics: u64,
}
