//! One attempt to send a request to a host.

use std::time::{Duration, Instant};

use crate::pool::{Failure, SelectionReason};
use ballast_balancer::{Host, HostAddress, HostId};

/// One attempt to send a request to a host.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The host's id.
    pub host: HostId,
    /// The host's address.
    pub address: HostAddress,
    /// The host's position in the pool.
    pub position: usize,
    /// Why the balancer selected this host.
    pub selection_reason: SelectionReason,
    /// When the attempt began.
    pub began: Instant,
    /// The time to get a connection; `None` if there was none.
    pub connect_time: Option<Duration>,
    /// Whether a pooled connection was reused.
    pub reused: bool,
    /// The time from the start until the response head; `None` without a response.
    pub first_byte: Option<Duration>,
    /// The status of the host's response.
    pub status: Option<u16>,
    /// The total time; `None` while the attempt runs.
    pub duration: Option<Duration>,
    /// How the attempt ended.
    pub outcome: AttemptOutcome,
    /// The attempt's span id in the request's trace; never 0; `None` without a trace.
    pub span: Option<u64>,
}

impl Attempt {
    /// Starts an attempt at the time `now`.
    pub fn begin(
        host: &Host,
        position: usize,
        selection_reason: SelectionReason,
        now: Instant,
    ) -> Self {
        Attempt {
            host: host.id().clone(),
            address: host.address().clone(),
            position,
            selection_reason,
            began: now,
            connect_time: None,
            reused: false,
            first_byte: None,
            status: None,
            duration: None,
            outcome: AttemptOutcome::Running,
            span: None,
        }
    }

    /// Whether the connection had ended before the host could see the request.
    pub(crate) fn is_stale(&self) -> bool {
        self.outcome == AttemptOutcome::Stale
    }

    /// Ends the attempt, unless it has already ended.
    pub fn end(&mut self, outcome: AttemptOutcome) {
        if self.outcome == AttemptOutcome::Running {
            self.duration = Some(self.began.elapsed());
            self.outcome = outcome;
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The attempt still runs.
    Running,
    /// The client received the whole response.
    Ok,
    /// The host failed.
    Failed(Failure),
    /// The host had already closed the reused connection; this is not a failure of the host.
    Stale,
    /// This machine is out of a resource for connections: file descriptors, ports or memory.
    Resources,
    /// The client disconnected, sent an invalid request, was too slow, or had set a deadline that was over.
    Client,
    /// An internal error of the proxy.
    Internal,
}

impl AttemptOutcome {
    /// The name in logs and metrics, one of a fixed set.
    pub fn code(self) -> &'static str {
        match self {
            AttemptOutcome::Running => "running",
            AttemptOutcome::Ok => "ok",
            AttemptOutcome::Failed(failure) => failure.code(),
            AttemptOutcome::Stale => "stale",
            AttemptOutcome::Resources => "resources",
            AttemptOutcome::Client => "client",
            AttemptOutcome::Internal => "internal",
        }
    }
}
