//! One request on one host of a pool.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Member, Outcome, Pool, Why};
use crate::balancer;

/// One request on one host of a pool. Dropping it ends the count, however the request ended.
#[must_use = "a lease that is dropped at once counts nothing"]
pub struct Lease {
    /// `None` only while this is dropped.
    counted: Option<balancer::Lease>,
    pool: Arc<Pool>,
    /// The host's position in the pool.
    position: usize,
    /// How often the host had been judged by its requests when this one began; see [`Member::era`].
    era: u32,
    why: Why,
    /// Whether an ejected host still has to prove itself with this request.
    probe: bool,
    /// How long the request waited in line.
    waited: Duration,
}

impl Lease {
    /// `None` if `counted` is on no host of the pool.
    pub(super) fn new(pool: &Arc<Pool>, counted: balancer::Lease, why: Why) -> Option<Self> {
        let position = *pool.by_id.get(counted.host().id())?;
        pool.members[position].tally().count();
        Some(Lease {
            era: pool.members[position].era(),
            counted: Some(counted),
            pool: Arc::clone(pool),
            position,
            why,
            probe: why == Why::Probe,
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
    pub fn why(&self) -> Why {
        self.why
    }

    /// How long the request waited in line.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    pub(super) fn after(mut self, waited: Duration) -> Self {
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
            self.pool.proven(self.member(), outcome);
        }
    }

    /// Ends the lease and tells how the request went. Drop it without a word where the end was the client's doing.
    /// `latency` is the time until the host began to answer, or failed.
    pub fn observe(mut self, latency: Duration, outcome: Outcome) {
        if let Some(counted) = &self.counted {
            counted.observe(latency, outcome == Outcome::Success);
        }
        let member = &self.pool.members[self.position];
        if outcome != Outcome::Success {
            member.tally().count_error();
        }
        if self.probe {
            self.probe = false;
            self.pool.proven(member, outcome);
        } else if member.era() == self.era {
            // What began before an ejection says nothing about the host after it.
            self.pool.observed(member, outcome);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // First the count, then the word that it is lower.
        self.counted = None;
        if self.probe {
            self.pool.probe_given_back(self.member());
        }
        self.pool.queue.wake();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease")
            .field(&self.member().host().id().as_str())
            .finish()
    }
}
