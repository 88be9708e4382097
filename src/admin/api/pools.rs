//! Pools and hosts as they are.

use std::sync::Arc;

use http::StatusCode;

use super::{Api, Request};
use crate::admin::reply::Reply;
use crate::balancer::HostId;
use crate::pool::Pool;

pub(super) fn all(api: &Api, _request: &Request) -> Result<Reply, Reply> {
    let pools = api.running.pools();
    let pools = Vec::from_iter(pools.iter().map(|pool| pool.status()));
    Ok(Reply::json(StatusCode::OK, &pools))
}

pub(super) fn one(api: &Api, request: &Request) -> Result<Reply, Reply> {
    let pool = named(api, request.segment(0))?;
    Ok(Reply::json(StatusCode::OK, &pool.status()))
}

pub(super) fn host(api: &Api, request: &Request) -> Result<Reply, Reply> {
    let pool = named(api, request.segment(0))?;
    let id = request.segment(1);
    match pool.member(&HostId::from(id)) {
        Some(member) => Ok(Reply::json(StatusCode::OK, &pool.host_status(member))),
        None => Err(no_host(&pool, id)),
    }
}

/// The pool of this name.
pub(super) fn named(api: &Api, name: &str) -> Result<Arc<Pool>, Reply> {
    let mut pools = api.running.pools().into_iter();
    pools
        .find(|pool| pool.name() == name)
        .ok_or_else(|| no_pool(name))
}

pub(super) fn no_pool(name: &str) -> Reply {
    let reason = format!("there is no pool `{}`", name.escape_debug());
    Reply::error(StatusCode::NOT_FOUND, reason)
}

pub(super) fn no_host(pool: &Pool, id: &str) -> Reply {
    let (pool, id) = (pool.name(), id.escape_debug());
    let reason = format!("the pool {pool} does not have a host `{id}`");
    Reply::error(StatusCode::NOT_FOUND, reason)
}
