//! What the API has to know of the process around it.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::balancer::HostId;
use crate::config::{Config, Host};
use crate::event_log::EventLog;
use crate::history::History;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::proxy::{ExplainError, ExplainRequest, RequestExplanation};
use crate::timestamp::Timestamp;

/// The process that the API tells of.
#[async_trait]
pub trait ProcessHandle: Debug + Send + Sync {
    /// The configuration that is in force.
    fn loaded_config(&self) -> Arc<LoadedConfig>;

    /// The pools that serve, in the order of the configuration.
    fn pools(&self) -> Vec<Arc<Pool>>;

    /// Which host a request would get, and why.
    ///
    /// # Errors
    /// If it names what does not exist, or is no request.
    fn explain(&self, request: &ExplainRequest) -> Result<RequestExplanation, ExplainError>;

    /// What the process works on.
    fn load(&self) -> ProcessLoad;

    /// What is counted.
    fn metrics(&self) -> &Arc<Metrics>;

    /// What has happened.
    fn event_log(&self) -> &Arc<EventLog>;

    /// How its pools did in the last minutes.
    fn history(&self) -> &Arc<History>;

    /// A permit to change something, to be held until the change is in force.
    ///
    /// # Errors
    /// Nothing may be changed now, as a successor would not hear of it.
    fn permit(&self) -> Result<ChangePermit, ChangeError>;

    /// Carries out what an operator asks for in the pool of this name; returns once it is in force.
    ///
    /// # Errors
    /// Why not. Then everything is as before.
    async fn change(&self, pool: &str, change: HostChange) -> Result<(), ChangeError>;
}

/// Dropping it ends the change that it was given for.
pub type ChangePermit = Box<dyn Debug + Send>;

/// What an operator may ask for at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostChange {
    /// One host more. It gets its first request after its first good check.
    Add(Host),
    /// No new requests to a host, and no checks; what runs on it may finish.
    Remove {
        /// Which one.
        host: HostId,
        /// Even if no other is usable.
        force: bool,
    },
    /// Another weight for a host.
    Weigh {
        /// Which one.
        host: HostId,
        /// At most [`MAX_WEIGHT`](crate::balancer::MAX_WEIGHT).
        weight: u32,
    },
}

/// Why something was not changed; one line for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeError {
    /// There is no such pool or host.
    Unknown(String),
    /// It stands against what is there already.
    Conflict(String),
    /// Not now; a moment later there is an answer.
    Busy(String),
}

/// A configuration in force.
#[derive(Debug)]
pub struct LoadedConfig {
    /// The configuration.
    pub config: Config,
    /// Its file; `None` if it is built in.
    pub file: Option<PathBuf>,
    /// When it was taken in.
    pub loaded: Timestamp,
}

/// What the process works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessLoad {
    /// Whether it wants requests.
    pub ready: bool,
    /// Whether it ends with its last request.
    pub draining: bool,
    /// Requests that have not ended.
    pub in_flight: u64,
    /// Clients' connections.
    pub connections: u64,
    /// Requests that ended in a panic, ever.
    pub panics: u64,
}
