//! What the API has to know of the process around it.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::Config;
use crate::journal::Journal;
use crate::moment::Moment;
use crate::pool::Pool;
use crate::proxy::{Described, Explanation, Inexplicable};

/// The process that the API tells of.
pub trait Running: Debug + Send + Sync {
    /// The configuration that is in force.
    fn current(&self) -> Arc<Current>;

    /// The pools that serve, in the order of the configuration.
    fn pools(&self) -> Vec<Arc<Pool>>;

    /// Which host a request would get, and why.
    ///
    /// # Errors
    /// If it names what does not exist, or is no request.
    fn explain(&self, request: &Described) -> Result<Explanation, Inexplicable>;

    /// What the process works on.
    fn load(&self) -> Load;

    /// What has happened.
    fn journal(&self) -> &Arc<Journal>;
}

/// A configuration in force.
#[derive(Debug)]
pub struct Current {
    /// The configuration.
    pub config: Config,
    /// Its file; `None` if it is built in.
    pub file: Option<PathBuf>,
    /// When it was taken in.
    pub loaded: Moment,
}

/// What the process works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
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
