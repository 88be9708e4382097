//! The process: is it alive, does it want requests, what is it and with what configuration.

use std::path::Path;
use std::process;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Api, ApiRequest, Caller, authorization};
use crate::admin::process_handle::{LoadedConfig, ProcessLoad};
use crate::admin::response::ApiResponse;
use crate::pool;
use crate::timestamp::Timestamp;

/// What the process is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessVersion {
    /// The version of the program.
    pub version: String,
    /// The id of the process.
    pub pid: u32,
    /// When it began.
    pub started: Timestamp,
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
    pub loaded: Timestamp,
}

/// What the process is and does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// What it is.
    #[serde(flatten)]
    pub process: ProcessVersion,
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
    pub pools: Vec<pool::PoolStatus>,
}

pub(super) fn alive(_api: &Api, _request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    Ok(ApiResponse::text(StatusCode::OK, "alive"))
}

pub(super) fn ready(api: &Api, _request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    Ok(match api.not_ready_reason() {
        None => ApiResponse::text(StatusCode::OK, "ready"),
        Some(reason) => ApiResponse::text(StatusCode::SERVICE_UNAVAILABLE, &reason),
    })
}

pub(super) fn version(api: &Api, _request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    Ok(ApiResponse::json(StatusCode::OK, &api.version()))
}

pub(super) fn status(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    Ok(ApiResponse::json(
        StatusCode::OK,
        &api.status(request.caller),
    ))
}

impl Api {
    /// What the process is.
    fn version(&self) -> ProcessVersion {
        ProcessVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            started: self.started,
            uptime_seconds: self.started_at.elapsed().as_secs_f64(),
            config: ConfigInfo::new(&self.process.loaded_config()),
        }
    }

    /// What the process is and does, as it is told to who came through `caller`.
    pub(crate) fn status(&self, caller: Caller) -> ProcessStatus {
        let ProcessLoad {
            ready: _,
            draining,
            in_flight,
            connections,
            panics,
        } = self.process.load();
        let loaded_config = self.process.loaded_config();
        let pools = self.process.pools();
        ProcessStatus {
            process: self.version(),
            ready: self.not_ready_reason().is_none(),
            draining,
            writable: authorization::is_writable(
                loaded_config.config.admin.token_file.as_ref(),
                caller,
            ),
            in_flight,
            connections,
            panics,
            pools: pools.iter().map(|pool| pool.status()).collect(),
        }
    }
}

impl ConfigInfo {
    fn new(loaded_config: &LoadedConfig) -> Self {
        let display = |file: &Path| file.display().to_string();
        ConfigInfo {
            file: loaded_config.file.as_deref().map(display),
            hash: loaded_config.config.digest.clone(),
            loaded: loaded_config.loaded,
        }
    }
}
