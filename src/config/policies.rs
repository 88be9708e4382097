//! The policies of a pool as they are meant: what keeps the failure of a host from its clients.

use std::time::Duration;

/// `ejection`: when a host that fails requests gets none for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ejection {
    /// What counts as a failure.
    pub failures: Failures,
    /// Failures in a row that eject; `None` after `0`: a row does not.
    pub consecutive: Option<u32>,
    /// The percentage of failures within [`window`](Self::window) that ejects, 1 to 100; `None` after `0%`: no share does.
    pub rate: Option<u32>,
    /// The time over which the percentage is taken.
    pub window: Duration,
    /// Requests within the window below which the percentage means nothing; at least 1.
    pub min_requests: u32,
    /// How long the first ejection lasts; each further one twice as long as the one before.
    pub base: Duration,
    /// The longest ejection, at least [`base`](Self::base). A host that has served for so long since starts afresh.
    pub max: Duration,
    /// The percentage of a pool's hosts, rounded down, that may be ejected at once, 1 to 100; one always may.
    pub max_ejected: u32,
}

/// What counts as a failure of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failures {
    /// No connection: refused, unreachable, too slow, TLS not agreed on.
    pub connect: bool,
    /// No answer, or not the rest of it, within the timeouts.
    pub timeout: bool,
    /// The connection ended before the answer was whole.
    pub reset: bool,
    /// The answer is not HTTP.
    pub malformed: bool,
    /// Status codes as ranges, both ends included.
    pub statuses: Vec<(u16, u16)>,
}

impl Failures {
    /// Statuses that tell of the host and not of the request. 501 and 505 are about what was asked for, and the others
    /// of the class as well.
    pub const HOST_STATUSES: [(u16, u16); 3] = [(500, 500), (502, 504), (520, 529)];

    /// Whether answers with this status count.
    pub fn names(&self, status: u16) -> bool {
        is_within(&self.statuses, status)
    }

    /// Whether answers with this status tell of the host, where nothing else is said.
    pub fn is_of_host(status: u16) -> bool {
        is_within(&Self::HOST_STATUSES, status)
    }
}

fn is_within(ranges: &[(u16, u16)], status: u16) -> bool {
    let mut ranges = ranges.iter();
    ranges.any(|&(from, to)| (from..=to).contains(&status))
}

/// `limits` of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Requests that may wait while every host is full; beyond it 503.
    pub queue: usize,
    /// How long one may wait; beyond it 503.
    pub queue_timeout: Duration,
}

/// `slow_start`: how hosts that are new or back come to their share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    /// How long it takes.
    pub window: Duration,
    /// The percentage of its share that a host begins with, 1 to 100.
    pub floor: u32,
}
