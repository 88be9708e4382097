//! One request on one host of a pool.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Member, Outcome, Pool, SelectionReason};
use crate::balancer;

/// One request on one host of a pool. Dropping it ends the count, however the request ended.
#[must_use = "a lease that is dropped at once counts nothing"]
pub struct PoolLease {
    /// `None` only while this is dropped.
    inner: Option<balancer::Lease>,
    pool: Arc<Pool>,
    /// The host's position in the pool.
    position: usize,
    /// How often the host had been judged by its requests when this one began; see [`Member::epoch`].
    epoch: u32,
    reason: SelectionReason,
    /// Whether an ejected host still has to prove itself with this request.
    probe: bool,
    /// How long the request waited in line.
    waited: Duration,
}

impl PoolLease {
    /// `None` if `counted` is on no host of the pool.
    pub(super) fn new(
        pool: &Arc<Pool>,
        inner: balancer::Lease,
        reason: SelectionReason,
    ) -> Option<Self> {
        let position = *pool.by_id.get(inner.host().id())?;
        pool.members[position].request_counters().count();
        Some(PoolLease {
            epoch: pool.members[position].epoch(),
            inner: Some(inner),
            pool: Arc::clone(pool),
            position,
            reason,
            probe: reason == SelectionReason::Probe,
            waited: Duration::ZERO,
        })
    }

    /// The host that was chosen.
    pub fn member(&self) -> &Member {
        &self.pool.members[self.position]
    }

    /// The host's position in the pool.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Why it is this host.
    pub fn reason(&self) -> SelectionReason {
        self.reason
    }

    /// How long the request waited in line.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    pub(super) fn with_wait(mut self, waited: Duration) -> Self {
        self.waited = waited;
        self
    }

    /// Whether this request is the one that an ejected host proves itself with.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// The host has begun to answer, which is as much as a probe or a check wants to know: the rest of an answer may take
    /// hours. How the whole request went is still to be told.
    pub fn answered(&mut self, outcome: Outcome) {
        if outcome == Outcome::Success {
            self.member().count_success();
        }
        if std::mem::take(&mut self.probe) {
            self.pool.finish_probe(self.member(), outcome);
        }
    }

    /// Ends the lease and tells how the request went. Drop it without a word where the end was the client's doing.
    /// `latency` is the time until the host began to answer, or failed.
    pub fn observe(mut self, latency: Duration, outcome: Outcome) {
        if let Some(inner) = &self.inner {
            inner.observe(latency, outcome == Outcome::Success);
        }
        let member = &self.pool.members[self.position];
        if outcome != Outcome::Success {
            member.request_counters().count_error();
        }
        if self.probe {
            self.probe = false;
            self.pool.finish_probe(member, outcome);
        } else if member.epoch() == self.epoch {
            // What began before an ejection says nothing about the host after it.
            self.pool.record_outcome(member, outcome);
        }
    }
}

impl Drop for PoolLease {
    fn drop(&mut self) {
        // First the count, then the word that it is lower.
        self.inner = None;
        if self.probe {
            self.pool.cancel_probe(self.member());
        }
        self.pool.queue.wake();
    }
}

impl fmt::Debug for PoolLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PoolLease")
            .field(&self.member().host().id().as_str())
            .finish()
    }
}
