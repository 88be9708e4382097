//! Which host a request would get, and why.

use http::StatusCode;

use super::{Api, Request};
use crate::admin::reply::Reply;
use crate::proxy::Inexplicable;

/// The path of the question which host a request would get; the method is POST, the request is described in the body.
pub const API_EXPLAIN: &str = "/api/v1/explain";

pub(super) fn explain(api: &Api, request: &Request) -> Result<Reply, Reply> {
    match api.running.explain(&request.json()?) {
        Ok(explanation) => Ok(Reply::json(StatusCode::OK, &explanation)),
        Err(Inexplicable::Unknown(reason)) => Err(Reply::error(StatusCode::NOT_FOUND, reason)),
        Err(Inexplicable::Invalid(reason)) => Err(Reply::error(StatusCode::BAD_REQUEST, reason)),
    }
}
