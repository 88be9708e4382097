//! The level of the log.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Api, Request};
use crate::admin::reply::Reply;
use crate::journal::Kind;
use crate::logging;

/// The path of the level; GET tells it, PUT changes it.
pub const API_LOG_LEVEL: &str = "/api/v1/log-level";

/// The level of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// `debug`, or by module `info,pingora=debug`.
    pub level: String,
}

pub(super) fn told(_api: &Api, _request: &Request) -> Result<Reply, Reply> {
    let level = logging::level();
    Ok(Reply::json(StatusCode::OK, &LogLevel { level }))
}

pub(super) fn set(api: &Api, request: &Request) -> Result<Reply, Reply> {
    let LogLevel { level } = request.json()?;
    logging::set_level(&level).map_err(|reason| Reply::error(StatusCode::BAD_REQUEST, reason))?;
    let text = format!("the level of the log is {level} now");
    api.running.journal().note(Kind::Level, None, None, text);
    told(api, request)
}
