//! Reads and sets the level of the log.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Api, ApiRequest};
use crate::admin::response::ApiResponse;
use crate::event_log::EventKind;
use crate::logging;

/// The path of the log level: GET reads it, PUT sets it.
pub const API_LOG_LEVEL: &str = "/api/v1/log-level";

/// The level of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// A level such as `debug`, or levels by module such as `info,pingora=debug`.
    pub level: String,
}

pub(super) fn get(_api: &Api, _request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let level = logging::level();
    Ok(ApiResponse::json(StatusCode::OK, &LogLevel { level }))
}

pub(super) fn set(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let LogLevel { level } = request.json()?;
    logging::set_level(&level)
        .map_err(|reason| ApiResponse::error(StatusCode::BAD_REQUEST, reason))?;
    let text = format!("the level of the log is {level} now");
    api.process
        .event_log()
        .log_event(EventKind::Level, None, None, text);
    get(api, request)
}
