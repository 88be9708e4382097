//! What has happened lately.

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{Api, Request};
use crate::admin::reply::Reply;
use crate::journal::Event;

/// Events, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// At most the newest 256.
    pub events: Vec<Event>,
}

/// Those with a number above `after`.
pub(super) fn after(api: &Api, request: &Request) -> Result<Reply, Reply> {
    let number = match request.query("after") {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            let shown = text.escape_debug();
            let reason = format!("after: `{shown}` is not the number of an event");
            Reply::error(StatusCode::BAD_REQUEST, reason)
        })?,
    };
    let events = api.running.journal().after(number);
    Ok(Reply::json(StatusCode::OK, &Events { events }))
}
