//! One try of a request at one host.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::balancer::{Host, HostId};
use crate::pool::{Failure, Why};

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
    pub why: Why,
    /// When the attempt began.
    pub began: Instant,
    /// How long it took to get a connection; `None` if there was none.
    pub connected: Option<Duration>,
    /// Whether the connection had been used before.
    pub reused: bool,
    /// From its begin until the head of the answer; `None` if none came.
    pub answered: Option<Duration>,
    /// The status of the host's answer.
    pub status: Option<u16>,
    /// From its begin until its end; `None` while it runs.
    pub took: Option<Duration>,
    /// How it ended.
    pub reason: Reason,
    /// Its span in the request's trace, if that has one; not 0.
    pub span: Option<u64>,
}

impl Attempt {
    /// An attempt that begins now.
    pub fn begin(host: &Host, position: usize, why: Why, now: Instant) -> Self {
        Attempt {
            host: host.id().clone(),
            address: host.address(),
            position,
            why,
            began: now,
            connected: None,
            reused: false,
            answered: None,
            status: None,
            took: None,
            reason: Reason::Running,
            span: None,
        }
    }

    /// Ends it, unless it has ended.
    pub fn end(&mut self, reason: Reason) {
        if self.reason == Reason::Running {
            self.took = Some(self.began.elapsed());
            self.reason = reason;
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
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

impl Reason {
    /// A short name, one of a fixed few.
    pub fn code(self) -> &'static str {
        match self {
            Reason::Running => "running",
            Reason::Ok => "ok",
            Reason::Failed(failure) => failure.code(),
            Reason::Stale => "stale",
            Reason::Resources => "resources",
            Reason::Client => "client",
            Reason::Internal => "internal",
        }
    }
}
