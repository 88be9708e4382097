//! `limits` of a pool: how many requests its hosts get at the same time, and how many may wait.

use std::time::Duration;

use super::schema::{or_zero, section, time, whole};

/// Each waiting request is a task with its connection.
const MAX_QUEUE: usize = 1_000_000;

section! {
    /// How many requests the hosts of a pool get at the same time, and how many may wait.
    pub struct PoolLimits: Copy, Eq {
        /// Requests of each host at the same time. 0: no limit.
        max_in_flight: Option<u64> { or_zero(whole(0..=u64::MAX)), default "0" },
        /// Requests that may wait; beyond it 503.
        queue: usize { whole(0..=MAX_QUEUE), default "128" },
        /// How long a request may wait; beyond it 503.
        queue_timeout: Duration { time(), default "1s" },
    }
}
