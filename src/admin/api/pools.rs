//! The status of pools and hosts.

use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Api, ApiRequest};
use crate::admin::response::ApiResponse;
use crate::discovery::SourceStatus;
use crate::pool::{Pool, PoolStatus};
use ballast_balancer::HostId;

/// The status of a pool, and what is known from its sources of hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolReport {
    /// The pool with its hosts.
    #[serde(flatten)]
    pub pool: PoolStatus,
    /// Its sources in the order of the configuration. Earlier versions do not report them.
    #[serde(default)]
    pub sources: Vec<SourceStatus>,
}

pub(super) fn all(api: &Api, _request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    Ok(ApiResponse::json(StatusCode::OK, &api.pool_reports()))
}

pub(super) fn one(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let pool = find_pool(api, request.segment(0))?;
    Ok(ApiResponse::json(StatusCode::OK, &api.pool_report(&pool)))
}

pub(super) fn host(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let pool = find_pool(api, request.segment(0))?;
    let id = request.segment(1);
    match pool.member(&HostId::from(id)) {
        Some(member) => Ok(ApiResponse::json(StatusCode::OK, &pool.host_status(member))),
        None => Err(no_host(&pool, id)),
    }
}

impl Api {
    /// The status of all pools, in the order of the configuration.
    pub(super) fn pool_reports(&self) -> Vec<PoolReport> {
        let mut sources = self.process.sources();
        let pools = self.process.pools().into_iter();
        let reports = pools.map(|pool| PoolReport {
            sources: sources.remove(pool.name()).unwrap_or_default(),
            pool: pool.status(),
        });
        reports.collect()
    }

    /// The status of a pool.
    pub(super) fn pool_report(&self, pool: &Pool) -> PoolReport {
        PoolReport {
            sources: self
                .process
                .sources()
                .remove(pool.name())
                .unwrap_or_default(),
            pool: pool.status(),
        }
    }
}

/// The pool with this name, or a 404 response.
pub(super) fn find_pool(api: &Api, name: &str) -> Result<Arc<Pool>, ApiResponse> {
    let mut pools = api.process.pools().into_iter();
    pools
        .find(|pool| pool.name() == name)
        .ok_or_else(|| no_pool(name))
}

pub(super) fn no_pool(name: &str) -> ApiResponse {
    let reason = format!("there is no pool `{}`", name.escape_debug());
    ApiResponse::error(StatusCode::NOT_FOUND, reason)
}

pub(super) fn no_host(pool: &Pool, id: &str) -> ApiResponse {
    let (pool, id) = (pool.name(), id.escape_debug());
    let reason = format!("the pool {pool} does not have a host `{id}`");
    ApiResponse::error(StatusCode::NOT_FOUND, reason)
}
