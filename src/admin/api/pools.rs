//! The status of pools and hosts.

use std::sync::Arc;

use http::StatusCode;

use super::{Api, ApiRequest};
use crate::admin::response::ApiResponse;
use crate::balancer::HostId;
use crate::pool::Pool;

pub(super) fn all(api: &Api, _request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let pools = api.process.pools();
    let pools = Vec::from_iter(pools.iter().map(|pool| pool.status()));
    Ok(ApiResponse::json(StatusCode::OK, &pools))
}

pub(super) fn one(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let pool = find_pool(api, request.segment(0))?;
    Ok(ApiResponse::json(StatusCode::OK, &pool.status()))
}

pub(super) fn host(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let pool = find_pool(api, request.segment(0))?;
    let id = request.segment(1);
    match pool.member(&HostId::from(id)) {
        Some(member) => Ok(ApiResponse::json(StatusCode::OK, &pool.host_status(member))),
        None => Err(no_host(&pool, id)),
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
