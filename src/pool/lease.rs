//! One request on one host of a pool.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Member, Outcome, Pool};
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
    /// The request that an ejected host proves itself with.
    probe: bool,
}

impl Lease {
    /// `None` if `counted` is on no host of the pool.
    pub(super) fn new(pool: &Arc<Pool>, counted: balancer::Lease, probe: bool) -> Option<Self> {
        let position = *pool.by_id.get(counted.host().id())?;
        Some(Lease {
            era: pool.members[position].era(),
            counted: Some(counted),
            pool: Arc::clone(pool),
            position,
            probe,
        })
    }

    /// The host that was chosen.
    pub fn member(&self) -> &Member {
        &self.pool.members[self.position]
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
