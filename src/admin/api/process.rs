//! Liveness, readiness, version and status of the process.

use std::path::Path;
use std::process;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::pools::PoolReport;
use super::{Api, ApiRequest, Caller, authorization};
use crate::acme::AcmeCertificate;
use crate::admin::drift::Drift;
use crate::admin::process_handle::{LoadedConfig, ProcessLoad};
use crate::admin::response::ApiResponse;
use crate::cluster::ClusterStatus;
use crate::timestamp::Timestamp;

/// The path of the status: GET.
pub const API_STATUS: &str = "/api/v1/status";

/// Identity of the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessVersion {
    /// The version of the program.
    pub version: String,
    /// The process id.
    pub pid: u32,
    /// When the process started.
    pub started: Timestamp,
    /// How long ago it started, by a monotonic clock.
    pub uptime_seconds: f64,
    /// The configuration in force.
    pub config: ConfigInfo,
}

/// Identity of the configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigInfo {
    /// Its file; `None` for the built-in configuration of the demo.
    pub file: Option<String>,
    /// The SHA-256 of the file's text, in hexadecimal.
    pub hash: String,
    /// When it was loaded.
    pub loaded: Timestamp,
}

/// Status of the process and of all its pools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// Version, process id and configuration.
    #[serde(flatten)]
    pub process: ProcessVersion,
    /// Whether it is ready for requests.
    pub ready: bool,
    /// Whether it is shutting down and ends with its last request.
    pub draining: bool,
    /// Whether the caller can make changes, possibly with the token.
    pub writable: bool,
    /// Requests in flight.
    pub in_flight: u64,
    /// Open client connections.
    pub connections: u64,
    /// Requests that ended in a panic since the process started.
    pub panics: u64,
    /// Changed files of TLS that are not used. Earlier versions do not report them.
    #[serde(default)]
    pub refused_certificates: Vec<RefusedCertificate>,
    /// The certificates that are ordered by ACME. Earlier versions do not report them.
    #[serde(default)]
    pub acme: Vec<AcmeCertificate>,
    /// The cluster that the process is a member of; `None`: it is alone. Earlier versions do not report it.
    #[serde(default)]
    pub cluster: Option<ClusterStatus>,
    /// What differs from the file and the binary on disk. Earlier versions do not report it.
    #[serde(default)]
    pub drift: Drift,
    /// The pools in the order of the configuration.
    pub pools: Vec<PoolReport>,
}

/// A changed file of TLS that is not used; what it held before stays in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedCertificate {
    /// The file of the chain, or the directory.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
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
    fn version(&self) -> ProcessVersion {
        ProcessVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            started: self.started,
            uptime_seconds: self.started_at.elapsed().as_secs_f64(),
            config: ConfigInfo::new(&self.process.loaded_config()),
        }
    }

    /// The status as shown to `caller`.
    pub(crate) fn status(&self, caller: Caller) -> ProcessStatus {
        let ProcessLoad {
            ready: _,
            draining,
            in_flight,
            connections,
            panics,
        } = self.process.load();
        let loaded_config = self.process.loaded_config();
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
            refused_certificates: refused_certificates(&loaded_config),
            acme: self.process.acme().to_vec(),
            cluster: self.process.cluster(),
            drift: self.process.drift(),
            pools: self.pool_reports(),
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

pub(super) fn refused_certificates(loaded_config: &LoadedConfig) -> Vec<RefusedCertificate> {
    let refused = loaded_config.refused_certificates.iter();
    refused
        .map(|(file, reason)| RefusedCertificate {
            file: file.display().to_string(),
            reason: reason.clone(),
        })
        .collect()
}
