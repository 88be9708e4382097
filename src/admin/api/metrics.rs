//! The metrics, for whoever scrapes them.

use http::StatusCode;
use log::error;
use prometheus::TEXT_FORMAT;

use super::{Api, ApiRequest};
use crate::admin::response::ApiResponse;

pub(super) fn all(api: &Api, _request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let text = api.process.metrics().text().map_err(|error| {
        error!("the metrics cannot be told: {error}");
        ApiResponse::error(StatusCode::INTERNAL_SERVER_ERROR, "this cannot be told")
    })?;
    Ok(ApiResponse::new(StatusCode::OK, TEXT_FORMAT, text))
}
