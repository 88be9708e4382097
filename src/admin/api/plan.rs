//! What a reload would do to hosts, keys and connections.

use serde::{Deserialize, Serialize};

use super::reload::{preview_permit, run_command};
use super::{Api, ApiRequest, ProcessCommand};
use crate::admin::response::ApiResponse;

/// The path of the plan: GET.
pub const API_PLAN: &str = "/api/v1/plan";

/// What a reload would change. Without a process, for two files, nothing is known of what is open or in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The file that would be loaded.
    pub file: String,
    /// `in-place` or `handover`; `None`: nothing has changed.
    pub way: Option<String>,
    /// One line for each change that a running process takes in.
    pub in_place: Vec<String>,
    /// One line for each change that needs a new process.
    pub in_new_process: Vec<String>,
    /// One line for each reason why the reload would fail.
    pub obstacles: Vec<String>,
    /// The pools whose hosts, algorithm, health check or sticky cookie change.
    pub pools: Vec<PoolPlan>,
    /// What becomes of the connections of clients.
    pub connections: ConnectionPlan,
}

/// What changes about a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolPlan {
    /// Its name.
    pub name: String,
    /// The algorithm before; `None`: the pool is new.
    pub algorithm_before: Option<String>,
    /// The algorithm after; `None`: the pool is removed.
    pub algorithm_after: Option<String>,
    /// `None`: the hosts and the algorithm stay, or there was no such pool or is none any more.
    pub keys: Option<KeyPlan>,
    /// The hosts that come, go or change.
    pub hosts: Vec<HostPlan>,
    /// `None`: the checks go on as they are.
    pub checks: Option<ChecksPlan>,
    /// Which sticky cookies lose their meaning, and why; `None`: they stay valid.
    pub void_cookies: Option<String>,
}

/// What becomes of the keys that an algorithm maps to hosts: hash keys, or client addresses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KeyPlan {
    /// Whether keys are bound to hosts now.
    pub bound_before: bool,
    /// Whether they will be.
    pub bound_after: bool,
    /// The number of keys that were sampled.
    pub sampled: u64,
    /// The share of the sampled keys that get another server, from 0 to 1; `None`: they were not or will not be bound.
    pub moved: Option<f64>,
    /// The least share that must move if each server has exactly its share by weight.
    pub minimum: Option<f64>,
}

/// What changes about a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlan {
    /// Its `host:port`.
    pub host: String,
    /// `None`: the host is new.
    pub before: Option<PlannedHost>,
    /// `None`: the host goes.
    pub after: Option<PlannedHost>,
    /// Whether its latency, health verdict, ejection and slow start are forgotten.
    pub loses_state: bool,
    /// Whether it comes to its share slowly.
    pub starts_slowly: bool,
    /// Requests in flight on a server that goes; they finish.
    pub in_flight: Option<u64>,
    /// Idle connections to a server that goes; they are not used again.
    pub kept_connections: Option<u64>,
}

/// The settings of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedHost {
    /// Its address.
    pub address: String,
    /// Its weight.
    pub weight: u32,
    /// Whether it is used only while no other host is usable.
    pub backup: bool,
}

/// What becomes of the health checks of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChecksPlan {
    /// There were none.
    Begin,
    /// All verdicts are forgotten. Each host is checked once before it is used.
    StartAnew,
    /// All hosts count as healthy from then on.
    End,
}

/// What becomes of the connections of clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionPlan {
    /// Whether all of them end, because another process takes the place of this one.
    pub all_end: bool,
    /// How long requests and tunnels may go on if all connections end, in milliseconds.
    pub grace_period_ms: Option<u64>,
    /// The connections that end.
    pub open: Option<u64>,
    /// The requests in flight on them, tunnels included.
    pub in_flight: Option<u64>,
    /// The tunnels on them, such as WebSockets.
    pub tunnels: Option<u64>,
    /// The listeners that go away, whose clients cannot connect again.
    pub removed_listeners: Vec<RemovedListener>,
}

/// A listener that goes away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedListener {
    /// Its address.
    pub address: String,
    /// Its open connections.
    pub open: Option<u64>,
}

pub(super) async fn plan(api: &Api, request: &ApiRequest) -> Result<ApiResponse, ApiResponse> {
    let _permit = preview_permit(api, request)?;
    run_command(api, ProcessCommand::Plan).await
}
