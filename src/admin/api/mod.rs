//! The API: JSON under `/api/v1`, the probes and the metrics.
//!
//! The table in [`router`] lists every path. A handler gets a request that is complete and authorized.

mod authorization;
mod certificates;
mod cluster;
mod description;
mod drain;
mod event_stream;
mod events;
mod explain;
mod history;
mod hosts;
mod log_level;
mod maintenance;
mod metrics;
mod plan;
mod pools;
mod process;
mod reload;
mod router;

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use pingora::http::RequestHeader;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc};

use super::api_server::Caller;
use super::process_handle::ProcessHandle;
use super::response::ApiResponse;
use crate::timestamp::Timestamp;

pub use super::response::ErrorBody;
pub use drain::{API_DRAIN, API_UNDRAIN};
pub use explain::API_EXPLAIN;
pub use hosts::{HostRemoval, NewHost, NewWeight};
pub use log_level::{API_LOG_LEVEL, LogLevel};
pub use plan::{
    API_PLAN, ChecksPlan, ConnectionPlan, HostPlan, KeyPlan, Plan, PlannedHost, PoolPlan,
    RemovedListener,
};
pub use pools::PoolReport;
pub use process::{API_STATUS, ProcessStatus, ProcessVersion};
pub use reload::{API_PREVIEW, API_RELOAD, ProcessCommand, ReloadPreview, ReloadResult};

use event_stream::EventStreams;
use router::{ApiRoute, Handler, RequiredAccess};

/// The API of one process, shared by its listeners.
#[derive(Debug)]
pub struct Api {
    process: Arc<dyn ProcessHandle>,
    commands: mpsc::Sender<ProcessCommand>,
    started: Timestamp,
    started_at: Instant,
    streams: EventStreams,
    /// Permits for previews and plans over TCP, which need no token.
    previews: Semaphore,
}

/// A complete request.
#[derive(Debug)]
pub(crate) struct ApiRequest {
    /// The values of the path parameters, decoded, in the order of the path.
    segments: Vec<String>,
    query: String,
    body: Vec<u8>,
    caller: Caller,
}

/// A request with a route and the access that it needs; its body has not been read yet.
pub(super) struct MatchedRequest {
    route: &'static ApiRoute,
    request: ApiRequest,
}

impl Api {
    /// The API of `process`; commands such as a reload are sent to `commands`.
    pub fn new(process: Arc<dyn ProcessHandle>, commands: mpsc::Sender<ProcessCommand>) -> Self {
        Api {
            process,
            commands,
            started: Timestamp::now(),
            started_at: Instant::now(),
            streams: EventStreams::default(),
            previews: Semaphore::new(reload::MAX_PREVIEWS),
        }
    }

    /// Why the process is not ready; `None` if it is.
    fn not_ready_reason(&self) -> Option<String> {
        if !self.process.load().ready {
            return Some("not ready".to_owned());
        }
        let required = self.process.loaded_config().config.admin.ready.usable;
        let pools = self.process.pools();
        let mut pools = pools.iter().map(|pool| (pool.name(), pool.usable()));
        let (pool, usable) = pools.find(|(_, usable)| *usable < required)?;
        Some(format!(
            "not ready: the pool {pool} has {usable} of {required} usable hosts"
        ))
    }

    /// Finds the route of a request of `caller`, and authorizes the request.
    ///
    /// # Errors
    /// The error response, if there is no such route or access is denied.
    pub(super) fn find_route(
        &self,
        request: &RequestHeader,
        caller: Caller,
    ) -> Result<MatchedRequest, ApiResponse> {
        let uri = &request.uri;
        let (route, segments) = router::find(&request.method, uri.path())?;
        let admin = &self.process.loaded_config().config.admin;
        authorization::authorize(admin, uri, &request.headers, route.access, caller)?;
        Ok(MatchedRequest {
            route,
            request: ApiRequest {
                segments,
                query: uri.query().unwrap_or_default().to_owned(),
                body: Vec::new(),
                caller,
            },
        })
    }
}

impl MatchedRequest {
    /// Runs the handler. A write holds a permit meanwhile, so that no handover begins during the change.
    pub(super) async fn respond(mut self, api: &Api, body: Vec<u8>) -> ApiResponse {
        self.request.body = body;
        // A reload takes its own permit: it may become a handover, which waits until all permits are released.
        let is_write = self.route.access == RequiredAccess::Write;
        let needs_permit = is_write && self.route.path != API_RELOAD;
        let permit = match needs_permit.then(|| api.process.permit()).transpose() {
            Ok(permit) => permit,
            Err(refusal) => return ApiResponse::from_change_error(refusal),
        };
        let response = match self.route.handler {
            Handler::Sync(handler) => handler(api, &self.request),
            Handler::Async(handler) => handler(api, &self.request).await,
        };
        drop(permit);
        response.unwrap_or_else(|refusal| refusal)
    }
}

impl ApiRequest {
    /// The value of a path parameter, counted from 0.
    pub(crate) fn segment(&self, index: usize) -> &str {
        &self.segments[index]
    }

    /// The decoded value of `key` in the query.
    pub(crate) fn query(&self, key: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.query.as_bytes());
        let (_, value) = pairs.find(|(name, _)| name == key)?;
        Some(value.into_owned())
    }

    /// The value of `key` in the query, which is `true` or `false`; false without it.
    ///
    /// # Errors
    /// The error response to another value.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, ApiResponse> {
        match self.query(key).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                let other = other.escape_debug();
                let reason = format!("{key}: `{other}` is neither true nor false");
                Err(ApiResponse::error(StatusCode::BAD_REQUEST, reason))
            }
        }
    }

    /// Parses the body as JSON.
    ///
    /// # Errors
    /// The error response to a body that does not parse as `T`.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiResponse> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let reason = format!("the body is not valid: {error}");
            ApiResponse::error(StatusCode::BAD_REQUEST, reason)
        })
    }
}
