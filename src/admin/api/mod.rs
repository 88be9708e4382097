//! The API: JSON under `/api/v1`, and the probes of whoever runs the process.
//!
//! One table has every path; a handler gets a request that has arrived whole and may do what it asks for.

mod commands;
mod description;
mod drain;
mod events;
mod explain;
mod history;
mod hosts;
mod level;
mod metrics;
mod permission;
mod pools;
mod process;
mod router;
mod stream;

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use pingora::http::RequestHeader;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc};

use super::entrance::Door;
use super::reply::Reply;
use super::running::Running;
use crate::moment::Moment;

pub use super::reply::ErrorBody;
pub use commands::{API_PREVIEW, API_RELOAD, Command, Preview, Reloaded};
pub use drain::{API_DRAIN, API_UNDRAIN};
pub use events::Events;
pub use explain::API_EXPLAIN;
pub use history::Histories;
pub use hosts::{NewHost, NewWeight, Removed};
pub use level::{API_LOG_LEVEL, LogLevel};
pub use process::{ConfigInfo, ProcessStatus, Version};

use router::{Access, Handler, Route};
use stream::Streams;

/// What answers to requests.
#[derive(Debug)]
pub struct Api {
    running: Arc<dyn Running>,
    commands: mpsc::Sender<Command>,
    started: Moment,
    began: Instant,
    streams: Streams,
    /// Places for previews of clients that need no token.
    previews: Semaphore,
}

/// A request that has arrived whole.
#[derive(Debug)]
pub(crate) struct Request {
    /// What stands in the place of the path's segments in braces.
    segments: Vec<String>,
    query: String,
    body: Vec<u8>,
    door: Door,
}

/// A request that may be answered once its body is there.
pub(super) struct Found {
    route: &'static Route,
    request: Request,
}

impl Api {
    /// Tells of `running`, and passes commands on to `commands`.
    pub fn new(running: Arc<dyn Running>, commands: mpsc::Sender<Command>) -> Self {
        Api {
            running,
            commands,
            started: Moment::now(),
            began: Instant::now(),
            streams: Streams::default(),
            previews: Semaphore::new(commands::PREVIEWS),
        }
    }

    /// Why the process does not want requests; `None` if it does.
    fn unready(&self) -> Option<String> {
        if !self.running.load().ready {
            return Some("not ready".to_owned());
        }
        let wanted = self.running.current().config.admin.ready.usable;
        let pools = self.running.pools();
        let mut pools = pools.iter().map(|pool| (pool.name(), pool.usable()));
        let (pool, usable) = pools.find(|(_, usable)| *usable < wanted)?;
        Some(format!(
            "not ready: the pool {pool} has {usable} of {wanted} usable hosts"
        ))
    }

    /// The route of a request that came through `door`.
    ///
    /// # Errors
    /// The answer to one that has none, or may not do what it asks for.
    pub(super) fn find(&self, request: &RequestHeader, door: Door) -> Result<Found, Reply> {
        let uri = &request.uri;
        let (route, segments) = router::find(&request.method, uri.path())?;
        let admin = &self.running.current().config.admin;
        permission::permit(admin, uri, &request.headers, route.access, door)?;
        Ok(Found {
            route,
            request: Request {
                segments,
                query: uri.query().unwrap_or_default().to_owned(),
                body: Vec::new(),
                door,
            },
        })
    }
}

impl Found {
    /// The answer.
    pub(super) async fn answer(mut self, api: &Api, body: Vec<u8>) -> Reply {
        self.request.body = body;
        // A reload asks for a permit itself, as it may become a handover, which waits for all others.
        let changes = self.route.access == Access::Write && self.route.path != API_RELOAD;
        let permit = match changes.then(|| api.running.permit()).transpose() {
            Ok(permit) => permit,
            Err(refusal) => return Reply::refusal(refusal),
        };
        let answer = match self.route.handler {
            Handler::Now(answer) => answer(api, &self.request),
            Handler::Later(answer) => answer(api, &self.request).await,
        };
        drop(permit);
        answer.unwrap_or_else(|refusal| refusal)
    }
}

impl Request {
    /// What stands in the place of a segment in braces, counted from 0.
    pub(crate) fn segment(&self, index: usize) -> &str {
        &self.segments[index]
    }

    /// What stands behind `key` in the query.
    pub(crate) fn query(&self, key: &str) -> Option<String> {
        query_value(&self.query, key)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// The answer to a body that is something else.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Reply> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let reason = format!("the body is not what is wanted here: {error}");
            Reply::error(StatusCode::BAD_REQUEST, reason)
        })
    }
}

/// What stands behind `key` in a query.
fn query_value(query: &str, key: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == key)?;
    let value = percent_encoding::percent_decode_str(value)
        .decode_utf8()
        .ok()?;
    Some(value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_query() {
        let query = "host=%5B%3A%3A1%5D%3A80&pool=a";
        assert_eq!(query_value(query, "host").as_deref(), Some("[::1]:80"));
        assert_eq!(query_value(query, "pool").as_deref(), Some("a"));
        assert_eq!(query_value(query, "other"), None);
        assert_eq!(query_value("host=%ff", "host"), None);
    }
}
