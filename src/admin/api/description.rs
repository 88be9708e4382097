//! The OpenAPI description of this API, and the configuration in force.

use http::StatusCode;

use super::{Api, ApiRequest};
use crate::admin::response::ApiResponse;

/// The description of this API in OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("../../../conf/openapi.yaml");

pub(super) fn openapi(_api: &Api, _request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    Ok(ApiResponse::new(
        StatusCode::OK,
        "application/yaml",
        OPENAPI,
    ))
}

pub(super) fn config(api: &Api, _request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let loaded_config = api.process.loaded_config();
    Ok(ApiResponse::json(
        StatusCode::OK,
        &loaded_config.config.dump(),
    ))
}
