//! The cluster that the process is a member of.

use http::StatusCode;

use super::{Api, ApiRequest};
use crate::admin::response::ApiResponse;

pub(super) fn status(api: &Api, _request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    match api.process.cluster() {
        Some(cluster) => Ok(ApiResponse::json(StatusCode::OK, &cluster)),
        None => {
            let reason = "the process is a member of no cluster; the file has no `cluster`";
            Err(ApiResponse::error(StatusCode::NOT_FOUND, reason))
        }
    }
}
