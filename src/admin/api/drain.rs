//! Draining hosts of the running process, and undoing that.

use http::StatusCode;

use super::{Api, ApiRequest, pools};
use crate::admin::response::ApiResponse;
use crate::balancer::HostId;

/// The path of the command to drain a host; the method is POST, the host and the pool stand in the query.
pub const API_DRAIN: &str = "/api/v1/drain";

/// The path of the command that undoes it.
pub const API_UNDRAIN: &str = "/api/v1/undrain";

pub(super) fn drain(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    set_drained(api, request, true)
}

pub(super) fn undrain(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    set_drained(api, request, false)
}

/// Carries a command out; its answer is a line for each pool.
fn set_drained(api: &Api, request: &ApiRequest, drained: bool) -> Result<ApiResponse, ApiResponse> {
    let host = request.query("host");
    let host = host.ok_or_else(|| ApiResponse::error(StatusCode::BAD_REQUEST, "which host?"))?;
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
    let lines = pools.iter().filter_map(|pool| {
        let member = pool.member(&host_id)?;
        let name = pool.name();
        let changes = pool.drain(member, drained);
        let mut line = match (drained, changes) {
            (true, true) => {
                let running = member.host().in_flight();
                format!("pool {name}: {host} drains, requests running: {running}")
            }
            (true, false) => format!("pool {name}: {host} was drained already"),
            (false, true) => format!("pool {name}: {host} is drained no more"),
            (false, false) => format!("pool {name}: {host} was not drained"),
        };
        if drained && !pool.members().iter().any(|other| other.is_usable()) {
            line.push_str("; as no host of the pool is usable now, it may still get requests");
        }
        if !drained && member.is_draining() {
            line.push_str("; its weight in the configuration is 0");
        }
        Some(line)
    });
    let lines = Vec::from_iter(lines);
    Ok(ApiResponse::text(StatusCode::OK, &lines.join("\n")))
}
