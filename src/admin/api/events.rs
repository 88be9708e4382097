//! The recent events.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Api, ApiRequest};
use crate::admin::response::ApiResponse;
use crate::event_log::Event;

/// Events, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventList {
    /// At most the newest 256 events.
    pub events: Vec<Event>,
}

/// The events with a number greater than `after` in the query.
pub(super) fn after(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let number = match request.query("after") {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            let shown = text.escape_debug();
            let reason = format!("after: `{shown}` is not an event number");
            ApiResponse::error(StatusCode::BAD_REQUEST, reason)
        })?,
    };
    let events = api.process.event_log().since(number);
    Ok(ApiResponse::json(StatusCode::OK, &EventList { events }))
}
