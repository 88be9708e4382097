//! What is told of a host in a pool beyond what decides on its requests: what state it is in, since when, and why.

use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// What state a host is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// It takes requests, or would if it were its turn.
    Up,
    /// It does, with less than its share.
    Starting,
    /// It works, and is wished to rest.
    Draining,
    /// It has failed requests and is left alone.
    Ejected,
    /// It has been, and may prove itself with one request.
    Probing,
    /// The checks say that it does not work.
    Down,
    /// No check has finished yet.
    Unchecked,
    /// An operator has removed it.
    Removed,
}

impl HostState {
    /// The same word as in JSON.
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

/// A check that has finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// When it finished.
    pub at: Timestamp,
    /// Whether the host passed it.
    pub good: bool,
    /// Why not, or `passed`.
    pub reason: String,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

/// What is told of a host. It goes along to the pool that follows, in this process or the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct StatusDetails {
    /// Never [`HostState::Starting`], which comes and goes by time alone.
    pub(super) state: HostState,
    /// When that state began.
    pub(super) since: Timestamp,
    pub(super) last_check: Option<CheckResult>,
    /// Checks that failed in a row.
    pub(super) failed: usize,
    /// Why the last one failed that did.
    pub(super) fault: Option<String>,
    /// What the last ejection was for.
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

    /// Takes in a check.
    pub(super) fn record_check(&mut self, check: CheckResult) {
        if check.good {
            self.failed = 0;
        } else {
            self.failed = self.failed.saturating_add(1);
            self.fault = Some(check.reason.clone());
        }
        self.last_check = Some(check);
    }

    /// Notes the state that the host is in now.
    pub(super) fn enter(&mut self, state: HostState) {
        if self.state != state {
            self.state = state;
            self.since = Timestamp::now();
        }
    }

    /// Goes on where another pool was. What checks of another kind have found means nothing.
    pub(super) fn resume(&mut self, before: &StatusDetails, same_checks: bool) {
        let checks = match same_checks {
            true => before.clone(),
            false => StatusDetails::new(),
        };
        *self = StatusDetails {
            state: before.state,
            // A clock may have been set back since.
            since: before.since.min(Timestamp::now()),
            ejection: before.ejection.clone(),
            ..checks
        };
    }
}
