//! What the process works by: the description of this API, and the configuration in force.

use http::StatusCode;

use super::{Api, Request};
use crate::admin::reply::Reply;

/// OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("../../../conf/openapi.yaml");

pub(super) fn openapi(_api: &Api, _request: &Request) -> Result<Reply, Reply> {
    Ok(Reply::new(StatusCode::OK, "application/yaml", OPENAPI))
}

pub(super) fn config(api: &Api, _request: &Request) -> Result<Reply, Reply> {
    let current = api.running.current();
    Ok(Reply::json(StatusCode::OK, &current.config.dump()))
}
