//! Adds, removes, weights and drains hosts at run time.

use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::{Api, ApiRequest, pools};
use crate::admin::process_handle::PoolChange;
use crate::admin::response::ApiResponse;
use crate::config::Host;
use crate::pool::{HostStatus, Pool};
use ballast_balancer::{HostId, MAX_WEIGHT};

/// A host to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewHost {
    /// Its `host:port` or `unix:/path`, which becomes its id. A name is resolved once.
    pub address: String,
    /// Its weight, 0 to 10,000.
    #[serde(default = "one")]
    pub weight: u32,
    /// Whether it is used only while no other host is usable.
    #[serde(default)]
    pub backup: bool,
    /// Limit of its requests in flight; `None`: no limit.
    #[serde(default)]
    pub max_in_flight: Option<u64>,
}

/// A new weight for a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewWeight {
    /// The weight, 0 to 10,000; 0 drains the host.
    pub weight: u32,
}

/// A host that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRemoval {
    /// The id of the host.
    pub removed: String,
    /// Requests still in flight on it.
    pub in_flight: u64,
}

fn one() -> u32 {
    1
}

pub(super) async fn add(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let NewHost {
        address,
        weight,
        backup,
        max_in_flight,
    } = request.json()?;
    let weight = check_weight(weight)?;
    let pool = pools::find_pool(api, request.segment(0))?;
    let found = spawn_blocking(move || Host::find(&address)).await;
    let found = found.unwrap_or_else(|error| Err(error.to_string()));
    let host = found.map_err(|reason| {
        let reason = format!("address: {reason}");
        ApiResponse::error(StatusCode::BAD_REQUEST, reason)
    })?;
    let host = Host {
        weight,
        backup,
        max_in_flight: max_in_flight.filter(|max| *max > 0),
        ..host
    };
    let id = host.id.clone();
    change(api, &pool, PoolChange::Add(host)).await?;
    let status = status(api, &pool, &id)?;
    Ok(ApiResponse::json(StatusCode::CREATED, &status))
}

pub(super) async fn remove(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let (pool, id) = find_host(api, request)?;
    let force = request.flag("force")?;
    let host = pool.member(&id).map(|member| Arc::clone(member.host()));
    let removed = PoolChange::Remove {
        host: id.clone(),
        force,
    };
    change(api, &pool, removed).await?;
    let removed = HostRemoval {
        removed: id.as_str().to_owned(),
        in_flight: host.map_or(0, |host| host.in_flight()),
    };
    Ok(ApiResponse::json(StatusCode::OK, &removed))
}

pub(super) async fn set_weight(
    api: &Api,
    request: &ApiRequest,
) -> Result<ApiResponse, ApiResponse> {
    let NewWeight { weight } = request.json()?;
    let weight = check_weight(weight)?;
    let (pool, host) = find_host(api, request)?;
    let id = host.clone();
    change(api, &pool, PoolChange::Weigh { host, weight }).await?;
    Ok(ApiResponse::json(StatusCode::OK, &status(api, &pool, &id)?))
}

pub(super) async fn drain(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    set_drained(api, request, true).await
}

pub(super) async fn undrain(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    set_drained(api, request, false).await
}

async fn set_drained(
    api: &Api,
    request: &ApiRequest,
    drained: bool,
) -> Result<ApiResponse, ApiResponse> {
    let (pool, host) = find_host(api, request)?;
    let id = host.clone();
    change(api, &pool, PoolChange::Drain { host, drained }).await?;
    Ok(ApiResponse::json(StatusCode::OK, &status(api, &pool, &id)?))
}

/// The pool and the host that the path names.
fn find_host(api: &Api, request: &ApiRequest) -> Result<(Arc<Pool>, HostId), ApiResponse> {
    let pool = pools::find_pool(api, request.segment(0))?;
    let id = HostId::from(request.segment(1));
    match pool.member(&id) {
        Some(_) => Ok((pool, id)),
        None => Err(pools::no_host(&pool, id.as_str())),
    }
}

async fn change(api: &Api, pool: &Pool, change: PoolChange) -> Result<(), ApiResponse> {
    let changed = api.process.change(pool.name(), change).await;
    changed.map_err(ApiResponse::from_change_error)
}

/// The status of a host after a change. The pool is looked up again, since the change may have replaced it.
fn status(api: &Api, pool: &Pool, id: &HostId) -> Result<HostStatus, ApiResponse> {
    let pool = pools::find_pool(api, pool.name())?;
    let member = pool.member(id);
    let member = member.ok_or_else(|| pools::no_host(&pool, id.as_str()))?;
    Ok(pool.host_status(member))
}

fn check_weight(weight: u32) -> Result<u32, ApiResponse> {
    match weight {
        0..=MAX_WEIGHT => Ok(weight),
        _ => Err(ApiResponse::error(
            StatusCode::BAD_REQUEST,
            format!("weight: {weight} is above {MAX_WEIGHT}"),
        )),
    }
}
