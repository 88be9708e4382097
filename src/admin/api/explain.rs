//! Explains which host a request would be sent to, and why.

use http::StatusCode;

use super::{Api, ApiRequest};
use crate::admin::response::ApiResponse;
use crate::proxy::ExplainError;

/// The path that explains a selection: POST, with the request described in the body.
pub const API_EXPLAIN: &str = "/api/v1/explain";

pub(super) fn explain(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    match api.process.explain(&request.json()?) {
        Ok(explanation) => Ok(ApiResponse::json(StatusCode::OK, &explanation)),
        Err(ExplainError::Unknown(reason)) => {
            Err(ApiResponse::error(StatusCode::NOT_FOUND, reason))
        }
        Err(ExplainError::Invalid(reason)) => {
            Err(ApiResponse::error(StatusCode::BAD_REQUEST, reason))
        }
    }
}
