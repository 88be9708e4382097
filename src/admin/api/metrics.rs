//! The metrics, for whoever scrapes them.

use http::StatusCode;
use log::error;
use prometheus::TEXT_FORMAT;

use super::{Api, Request};
use crate::admin::reply::Reply;

pub(super) fn all(api: &Api, _request: &Request) -> Result<Reply, Reply> {
    let text = api.running.metrics().text().map_err(|error| {
        error!("the metrics cannot be told: {error}");
        Reply::error(StatusCode::INTERNAL_SERVER_ERROR, "this cannot be told")
    })?;
    Ok(Reply::new(StatusCode::OK, TEXT_FORMAT, text))
}
