//! What is told of a host in a pool beyond what decides on its requests: what state it is in, since when, and why.

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// What state a host is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
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

impl State {
    /// The same word as in JSON.
    pub fn code(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Starting => "starting",
            State::Draining => "draining",
            State::Ejected => "ejected",
            State::Probing => "probing",
            State::Down => "down",
            State::Unchecked => "unchecked",
            State::Removed => "removed",
        }
    }
}

/// A check that has finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// When it finished.
    pub at: Moment,
    /// Whether the host passed it.
    pub good: bool,
    /// Why not, or `passed`.
    pub reason: String,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

/// What is told of a host. It goes along to the pool that follows, in this process or the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Never [`State::Starting`], which comes and goes by time alone.
    pub(super) state: State,
    /// When that state began.
    pub(super) since: Moment,
    pub(super) last_check: Option<Check>,
    /// Checks that failed in a row.
    pub(super) failed: usize,
    /// Why the last one failed that did.
    pub(super) fault: Option<String>,
    /// What the last ejection was for.
    pub(super) ejection: Option<String>,
}

impl Facts {
    pub(super) fn new() -> Self {
        Facts {
            state: State::Unchecked,
            since: Moment::now(),
            last_check: None,
            failed: 0,
            fault: None,
            ejection: None,
        }
    }

    /// Takes in a check.
    pub(super) fn checked(&mut self, check: Check) {
        if check.good {
            self.failed = 0;
        } else {
            self.failed = self.failed.saturating_add(1);
            self.fault = Some(check.reason.clone());
        }
        self.last_check = Some(check);
    }

    /// Notes the state that the host is in now.
    pub(super) fn enter(&mut self, state: State) {
        if self.state != state {
            self.state = state;
            self.since = Moment::now();
        }
    }

    /// Goes on where another pool was. What checks of another kind have found means nothing.
    pub(super) fn resume(&mut self, before: &Facts, same_checks: bool) {
        let checks = match same_checks {
            true => before.clone(),
            false => Facts::new(),
        };
        *self = Facts {
            state: before.state,
            // A clock may have been set back since.
            since: before.since.min(Moment::now()),
            ejection: before.ejection.clone(),
            ..checks
        };
    }
}
