//! The state of a host in a pool as people see it: which state, since when, and why. No request depends on it.

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// The state of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// The host takes requests.
    Up,
    /// The host takes requests, but less than its share: it is in slow start.
    Starting,
    /// The host works, but gets no new requests: an operator drained it or its weight is 0.
    Draining,
    /// The host failed requests and gets none for a while.
    Ejected,
    /// The host's ejection is over; one request is to probe it.
    Probing,
    /// The health checks fail.
    Down,
    /// No check has finished yet.
    Unchecked,
    /// An operator has removed it.
    Removed,
}

impl HostState {
    /// The state's name in JSON.
    pub fn code(self) -> &'static str {
        match self {
            HostState::Up => "up",
            HostState::Starting => "starting",
            HostState::Draining => "draining",
            HostState::Ejected => "ejected",
            HostState::Probing => "probing",
            HostState::Down => "down",
            HostState::Unchecked => "unchecked",
            HostState::Removed => "removed",
        }
    }
}

/// A finished health check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// When it finished.
    pub at: Timestamp,
    /// Whether the host passed it.
    pub good: bool,
    /// Why it failed, or `passed`.
    pub reason: String,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

/// Details for people. They are carried over to the pool's replacement, in this process or the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StatusDetails {
    /// Never [`HostState::Starting`], which depends on time alone.
    pub(super) state: HostState,
    /// When that state began.
    pub(super) since: Timestamp,
    pub(super) last_check: Option<CheckResult>,
    /// Consecutive failed checks.
    pub(super) failed: usize,
    /// Why the most recent failed check failed.
    pub(super) fault: Option<String>,
    /// Why the host was last ejected.
    pub(super) ejection: Option<String>,
}

impl StatusDetails {
    pub(super) fn new() -> Self {
        StatusDetails {
            state: HostState::Unchecked,
            since: Timestamp::now(),
            last_check: None,
            failed: 0,
            fault: None,
            ejection: None,
        }
    }

    /// Records a finished check.
    pub(super) fn record_check(&mut self, check: CheckResult) {
        if check.good {
            self.failed = 0;
        } else {
            self.failed = self.failed.saturating_add(1);
            self.fault = Some(check.reason.clone());
        }
        self.last_check = Some(check);
    }

    /// Sets the state the host is in now.
    pub(super) fn enter(&mut self, state: HostState) {
        if self.state != state {
            self.state = state;
            self.since = Timestamp::now();
        }
    }

    /// Continues from another pool's details. Results of a different kind of check are dropped.
    pub(super) fn resume(&mut self, before: &StatusDetails, same_checks: bool) {
        let checks = match same_checks {
            true => before.clone(),
            false => StatusDetails::new(),
        };
        *self = StatusDetails {
            state: before.state,
            // The clock may have been set back in between.
            since: before.since.min(Timestamp::now()),
            ejection: before.ejection.clone(),
            ..checks
        };
    }
}
