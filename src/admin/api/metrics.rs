//! The metrics in Prometheus text format.

use http::StatusCode;
use log::error;
use prometheus::TEXT_FORMAT;

use super::{Api, ApiRequest};
use crate::admin::response::ApiResponse;

pub(super) fn all(api: &Api, _request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let text = api.process.metrics().text().map_err(|error| {
        error!("cannot encode the metrics: {error}");
        ApiResponse::error(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    })?;
    Ok(ApiResponse::new(StatusCode::OK, TEXT_FORMAT, text))
}
