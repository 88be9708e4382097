//! The process: is it alive, does it want requests, what is it and with what configuration.

use std::path::Path;
use std::process;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Api, Door, Request, permission};
use crate::admin::reply::Reply;
use crate::admin::running::{Current, Load};
use crate::moment::Moment;
use crate::pool;

/// What the process is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The version of the program.
    pub version: String,
    /// The id of the process.
    pub pid: u32,
    /// When it began.
    pub started: Moment,
    /// How long ago that was, whatever the wall clock did meanwhile.
    pub uptime_seconds: f64,
    /// The configuration in force.
    pub config: ConfigInfo,
}

/// Which configuration is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigInfo {
    /// Its file; `None` if it is built in.
    pub file: Option<String>,
    /// The SHA-256 of the file's text, in hexadecimal.
    pub hash: String,
    /// When it was taken in.
    pub loaded: Moment,
}

/// What the process is and does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// What it is.
    #[serde(flatten)]
    pub process: Version,
    /// Whether it wants requests.
    pub ready: bool,
    /// Whether it ends with its last request.
    pub draining: bool,
    /// Whether something can be changed where this was asked for, at least with the token.
    pub writable: bool,
    /// Requests that have not ended.
    pub in_flight: u64,
    /// Clients' connections.
    pub connections: u64,
    /// Requests that ended in a panic since the process began.
    pub panics: u64,
    /// The pools in the order of the configuration.
    pub pools: Vec<pool::Status>,
}

pub(super) fn alive(_api: &Api, _request: &Request) -> Result<Reply, Reply> {
    Ok(Reply::text(StatusCode::OK, "alive"))
}

pub(super) fn ready(api: &Api, _request: &Request) -> Result<Reply, Reply> {
    Ok(match api.unready() {
        None => Reply::text(StatusCode::OK, "ready"),
        Some(reason) => Reply::text(StatusCode::SERVICE_UNAVAILABLE, &reason),
    })
}

pub(super) fn version(api: &Api, _request: &Request) -> Result<Reply, Reply> {
    Ok(Reply::json(StatusCode::OK, &api.version()))
}

pub(super) fn status(api: &Api, request: &Request) -> Result<Reply, Reply> {
    Ok(Reply::json(StatusCode::OK, &api.status(request.door)))
}

impl Api {
    /// What the process is.
    fn version(&self) -> Version {
        Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            started: self.started,
            uptime_seconds: self.began.elapsed().as_secs_f64(),
            config: ConfigInfo::of(&self.running.current()),
        }
    }

    /// What the process is and does, as it is told to who came through `door`.
    pub(crate) fn status(&self, door: Door) -> ProcessStatus {
        let Load {
            ready: _,
            draining,
            in_flight,
            connections,
            panics,
        } = self.running.load();
        let current = self.running.current();
        let pools = self.running.pools();
        ProcessStatus {
            process: self.version(),
            ready: self.unready().is_none(),
            draining,
            writable: permission::is_writable(current.config.admin.token_file.as_ref(), door),
            in_flight,
            connections,
            panics,
            pools: pools.iter().map(|pool| pool.status()).collect(),
        }
    }
}

impl ConfigInfo {
    fn of(current: &Current) -> Self {
        let shown = |file: &Path| file.display().to_string();
        ConfigInfo {
            file: current.file.as_deref().map(shown),
            hash: current.config.digest.clone(),
            loaded: current.loaded,
        }
    }
}
