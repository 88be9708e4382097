//! What has happened lately.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Api, ApiRequest};
use crate::admin::response::ApiResponse;
use crate::event_log::Event;

/// Events, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventList {
    /// At most the newest 256.
    pub events: Vec<Event>,
}

/// Those with a number above `after`.
pub(super) fn after(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let number = match request.query("after") {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            let shown = text.escape_debug();
            let reason = format!("after: `{shown}` is not the number of an event");
            ApiResponse::error(StatusCode::BAD_REQUEST, reason)
        })?,
    };
    let events = api.process.event_log().since(number);
    Ok(ApiResponse::json(StatusCode::OK, &EventList { events }))
}
