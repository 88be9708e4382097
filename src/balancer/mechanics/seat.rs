//! A host's place in one balancer: where requests are counted.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::host::Host;
use super::live::Live;

/// What an algorithm keeps about one host's requests beside the count on the host itself.
pub(crate) trait Ledger: Debug + Send + Sync {
    /// A request was counted on the host, outside [`Chooser::pick_and_count`](super::chooser::Chooser::pick_and_count).
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
    ledger: Option<Arc<dyn Ledger>>,
    /// The balancer's clock, here so that a lease is one pointer.
    clock: Clock,
}

impl Seat {
    pub(crate) fn new(host: Arc<Host>, ledger: Option<Arc<dyn Ledger>>, clock: Clock) -> Self {
        Seat {
            live: Arc::clone(host.live()),
            host,
            ledger,
            clock,
        }
    }

    /// Takes in how a request went that has just ended.
    pub(crate) fn observe(&self, latency: Duration, succeeded: bool) {
        self.live.observe(self.clock.now(), latency, succeeded);
    }

    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// Counts one request more.
    pub(crate) fn take(&self) {
        self.live.inc();
        if let Some(ledger) = &self.ledger {
            ledger.took();
        }
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
