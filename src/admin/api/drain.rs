//! Drains and undrains a host in all pools that have it, for the command line.

use http::StatusCode;

use super::{Api, ApiRequest, pools};
use crate::admin::process_handle::PoolChange;
use crate::admin::response::ApiResponse;
use crate::pool::Member;
use ballast_balancer::HostId;

/// The path that drains a host: POST, with `host` and optionally `pool` in the query.
pub const API_DRAIN: &str = "/api/v1/drain";

/// The path that undoes a drain, with the same query.
pub const API_UNDRAIN: &str = "/api/v1/undrain";

pub(super) async fn drain(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    set_drained(api, request, true).await
}

pub(super) async fn undrain(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    set_drained(api, request, false).await
}

/// Drains or undrains the host; the response has a line for each pool.
async fn set_drained(
    api: &Api,
    request: &ApiRequest,
    drained: bool,
) -> Result<ApiResponse, ApiResponse> {
    let host = request.query("host");
    let host =
        host.ok_or_else(|| ApiResponse::error(StatusCode::BAD_REQUEST, "the query has no host"))?;
    let host_id = HostId::from(host.as_str());
    let pools = match request.query("pool") {
        Some(name) => {
            let pool = pools::find_pool(api, &name)?;
            if pool.member(&host_id).is_none() {
                return Err(pools::no_host(&pool, &host));
            }
            vec![pool]
        }
        None => {
            let mut pools = api.process.pools();
            pools.retain(|pool| pool.member(&host_id).is_some());
            pools
        }
    };
    if pools.is_empty() {
        let reason = format!("no pool has a host `{}`", host.escape_debug());
        return Err(ApiResponse::error(StatusCode::NOT_FOUND, reason));
    }
    let mut lines = Vec::with_capacity(pools.len());
    for pool in &pools {
        let was_drained = pool.member(&host_id).is_some_and(Member::is_drained);
        let change = PoolChange::Drain {
            host: host_id.clone(),
            drained,
        };
        let changed = api.process.change(pool.name(), change).await;
        changed.map_err(ApiResponse::from_change_error)?;
        // The change may have replaced it.
        let pool = pools::find_pool(api, pool.name())?;
        let Some(member) = pool.member(&host_id) else {
            continue;
        };
        let name = pool.name();
        let has_changed = was_drained != drained;
        let mut line = match (drained, has_changed) {
            (true, true) => {
                let in_flight = member.host().in_flight();
                format!("pool {name}: {host} is draining, requests in flight: {in_flight}")
            }
            (true, false) => format!("pool {name}: {host} was already drained"),
            (false, true) => format!("pool {name}: {host} is no longer drained"),
            (false, false) => format!("pool {name}: {host} was not drained"),
        };
        if drained && !pool.members().iter().any(|other| other.is_usable()) {
            line.push_str("; no host of the pool is usable now, so it may still get requests");
        }
        if !drained && member.is_draining() {
            line.push_str("; its weight in the configuration is 0");
        }
        lines.push(line);
    }
    Ok(ApiResponse::text(StatusCode::OK, &lines.join("\n")))
}
