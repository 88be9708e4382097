//! A member of a balancer, where requests are counted.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::host::Host;
use super::host_stats::HostStats;
use super::pool_stats::PoolStats;

/// An algorithm's own state for one host, beside the count on the host itself.
pub(crate) trait PerHostState: Debug + Send + Sync {
    /// A request was counted on the host, outside [`Picker::pick_and_count`](super::picker::Picker::pick_and_count).
    fn on_acquire(&self) {}
    /// A request of the host ended; `in_flight` run on.
    fn on_release(&self, host: &Host, in_flight: u64);
    /// The host has become a member. Called once the new snapshot is in place.
    fn on_join(&self) {}
    /// The host is about to leave; requests may still be in flight. Called while the old snapshot is in place.
    fn on_leave(&self) {}
}

/// A member of a balancer: the host and the algorithm's state for it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) host: Arc<Host>,
    /// The host's live state, here so that a pick and a release touch one cache line less.
    stats: Arc<HostStats>,
    /// The most requests in flight that a pick allows; `u64::MAX` means no limit.
    limit: u64,
    /// When slow start ends, nanoseconds of the clock; 0 = not in slow start.
    ramp: AtomicU64,
    per_host_state: Option<Arc<dyn PerHostState>>,
    /// The balancer's shared state, here so that a lease is a single pointer.
    pool_stats: Arc<PoolStats>,
}

impl Slot {
    pub(crate) fn new(
        host: Arc<Host>,
        per_host_state: Option<Arc<dyn PerHostState>>,
        pool_stats: Arc<PoolStats>,
    ) -> Self {
        // The host may have recent failures from another balancer.
        pool_stats.fail_until(host.stats().failing_until());
        Slot {
            stats: Arc::clone(host.stats()),
            limit: host.max_in_flight().map_or(u64::MAX, |limit| limit.get()),
            ramp: AtomicU64::new(0),
            host,
            per_host_state,
            pool_stats,
        }
    }

    /// Records the outcome of a request that has just ended.
    pub(crate) fn observe(&self, latency: Duration, succeeded: bool) {
        let now = self.pool_stats.now();
        self.stats.observe(now, latency, succeeded);
        if succeeded {
            self.pool_stats.observe(now, latency);
        } else {
            self.pool_stats.fail_until(self.stats.failing_until());
        }
    }

    pub(crate) fn stats(&self) -> &Arc<HostStats> {
        &self.stats
    }

    /// The most requests in flight that a pick allows; `u64::MAX` means no limit.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether the host is at its limit of requests in flight.
    pub(crate) fn is_full(&self) -> bool {
        self.stats.in_flight() >= self.limit
    }

    /// When slow start ends, nanoseconds of the clock; 0 = not in slow start.
    pub(crate) fn ramp(&self) -> u64 {
        self.ramp.load(Ordering::Relaxed)
    }

    /// Puts the host into slow start until `end`.
    pub(super) fn ramp_until(&self, end: u64) {
        self.ramp.store(end, Ordering::Relaxed);
    }

    /// Counts one more request, regardless of the limit.
    pub(crate) fn acquire(&self) {
        self.stats.inc();
        if let Some(per_host_state) = &self.per_host_state {
            per_host_state.on_acquire();
        }
    }

    /// Counts one more request if the host has room.
    pub(crate) fn try_acquire(&self) -> bool {
        let room = self.stats.inc_below(self.limit);
        if room && let Some(per_host_state) = &self.per_host_state {
            per_host_state.on_acquire();
        }
        room
    }

    /// Notifies the per-host state that the host has become a member. Members of weight 0 take no requests.
    pub(crate) fn on_join(&self) {
        if self.host.weight() > 0
            && let Some(per_host_state) = &self.per_host_state
        {
            per_host_state.on_join();
        }
    }

    /// Notifies the per-host state that the host is about to leave.
    pub(crate) fn on_leave(&self) {
        if let Some(per_host_state) = &self.per_host_state {
            per_host_state.on_leave();
        }
    }

    /// Counts one request less. Does nothing if none is in flight.
    pub(crate) fn release(&self) {
        if let Some(in_flight) = self.stats.dec()
            && let Some(per_host_state) = &self.per_host_state
        {
            per_host_state.on_release(&self.host, in_flight);
        }
    }
}
