//! A host's place in one balancer: where requests are counted.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::conditions::Conditions;
use super::host::Host;
use super::live::Live;

/// What an algorithm keeps about one host's requests beside the count on the host itself.
pub(crate) trait Ledger: Debug + Send + Sync {
    /// A request was counted on the host, outside [`Choose::choose_and_count`](super::chooser::Choose::choose_and_count).
    fn took(&self) {}
    /// A request of the host ended; `in_flight` run on.
    fn returned(&self, host: &Host, in_flight: u64);
    /// The host has become a member. Called once the new arrangement is in place.
    fn joined(&self) {}
    /// The host is about to leave; requests may still run on it. Called while the old arrangement is in place.
    fn left(&self) {}
}

/// A member of a balancer: the host and what the algorithm keeps about it.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) host: Arc<Host>,
    /// The host's live state, once more: a pick and its end then touch one cache line less.
    live: Arc<Live>,
    /// The most requests that a pick may let run here; `u64::MAX` means any number.
    limit: u64,
    /// When the host has its whole share again, nanoseconds of the clock; 0 = it has it.
    ramp: AtomicU64,
    ledger: Option<Arc<dyn Ledger>>,
    /// The balancer's, here so that a lease is one pointer.
    conditions: Arc<Conditions>,
}

impl Seat {
    pub(crate) fn new(
        host: Arc<Host>,
        ledger: Option<Arc<dyn Ledger>>,
        conditions: Arc<Conditions>,
    ) -> Self {
        // The host may bring failures along from another balancer.
        conditions.fail_until(host.live().failing_until());
        Seat {
            live: Arc::clone(host.live()),
            limit: host.max_in_flight().map_or(u64::MAX, |limit| limit.get()),
            ramp: AtomicU64::new(0),
            host,
            ledger,
            conditions,
        }
    }

    /// Takes in how a request went that has just ended.
    pub(crate) fn observe(&self, latency: Duration, succeeded: bool) {
        let now = self.conditions.now();
        self.live.observe(now, latency, succeeded);
        if succeeded {
            self.conditions.observe(now, latency);
        } else {
            self.conditions.fail_until(self.live.failing_until());
        }
    }

    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The most requests that a pick may let run here; `u64::MAX` means any number.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether as many requests run here as may.
    pub(crate) fn is_full(&self) -> bool {
        self.live.in_flight() >= self.limit
    }

    /// When the host has its whole share, nanoseconds of the clock; 0 = it has it.
    pub(crate) fn ramp(&self) -> u64 {
        self.ramp.load(Ordering::Relaxed)
    }

    /// Lets the host have its whole share at `end` only.
    pub(super) fn ramp_until(&self, end: u64) {
        self.ramp.store(end, Ordering::Relaxed);
    }

    /// Counts one request more, whatever the limit.
    pub(crate) fn take(&self) {
        self.live.inc();
        if let Some(ledger) = &self.ledger {
            ledger.took();
        }
    }

    /// Counts one request more if the host has room for it.
    pub(crate) fn take_if_room(&self) -> bool {
        let room = self.live.inc_below(self.limit);
        if room && let Some(ledger) = &self.ledger {
            ledger.took();
        }
        room
    }

    /// Tells the ledger that the host has become a member that can take requests.
    pub(crate) fn joined(&self) {
        if self.host.weight() > 0
            && let Some(ledger) = &self.ledger
        {
            ledger.joined();
        }
    }

    /// Tells the ledger that the host is about to leave.
    pub(crate) fn left(&self) {
        if let Some(ledger) = &self.ledger {
            ledger.left();
        }
    }

    /// Counts one request less. Harmless if none runs.
    pub(crate) fn release(&self) {
        if let Some(left) = self.live.dec()
            && let Some(ledger) = &self.ledger
        {
            ledger.returned(&self.host, left);
        }
    }
}
