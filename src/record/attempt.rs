//! One try of a request at one host.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::balancer::{Host, HostId};
use crate::pool::{Failure, SelectionReason};

/// One try of a request at one host.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The host.
    pub host: HostId,
    /// Its address.
    pub address: SocketAddr,
    /// Its position in the pool.
    pub position: usize,
    /// Why it was this host.
    pub selection_reason: SelectionReason,
    /// When the attempt began.
    pub began: Instant,
    /// How long it took to get a connection; `None` if there was none.
    pub connect_time: Option<Duration>,
    /// Whether the connection had been used before.
    pub reused: bool,
    /// From its begin until the head of the answer; `None` if none came.
    pub first_byte: Option<Duration>,
    /// The status of the host's answer.
    pub status: Option<u16>,
    /// From its begin until its end; `None` while it runs.
    pub duration: Option<Duration>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Its span in the request's trace, if that has one; not 0.
    pub span: Option<u64>,
}

impl Attempt {
    /// An attempt that begins now.
    pub fn begin(
        host: &Host,
        position: usize,
        selection_reason: SelectionReason,
        now: Instant,
    ) -> Self {
        Attempt {
            host: host.id().clone(),
            address: host.address(),
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

    /// Ends it, unless it has ended.
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
    /// It has not.
    Running,
    /// The client has the whole answer.
    Ok,
    /// The host failed it.
    Failed(Failure),
    /// The host had closed the idle connection that was used again; not its failure.
    Stale,
    /// This machine lacks what a connection needs: descriptors, ports, memory.
    Resources,
    /// The client left, sent what it must not, or was too slow.
    Client,
    /// The code that served it failed.
    Internal,
}

impl AttemptOutcome {
    /// A short name, one of a fixed few.
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
