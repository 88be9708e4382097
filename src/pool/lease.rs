//! Leases: requests counted on a host of a pool, and how a request gets one.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::select::CountedAcquire;
use super::{Member, Outcome, Pool, SelectionReason};
use ballast_balancer::{self as balancer, BalancerError, HostId, Selection};

/// One request, counted on one host of a pool. Dropping the lease ends the count, however the request ended.
#[must_use = "a lease that is dropped at once counts nothing"]
pub struct PoolLease {
    /// `None` only while the lease is being dropped.
    inner: Option<balancer::Lease>,
    pool: Arc<Pool>,
    /// The host's position in the pool.
    position: usize,
    /// The host's epoch when the request began; see [`Member::epoch`].
    epoch: u32,
    reason: SelectionReason,
    /// Whether this request still has to probe an ejected host.
    probe: bool,
    /// How long the request waited in the queue.
    waited: Duration,
}

impl PoolLease {
    /// `None` if the host of `inner` is not in the pool.
    pub(super) fn new(
        pool: &Arc<Pool>,
        inner: balancer::Lease,
        reason: SelectionReason,
    ) -> Option<Self> {
        let position = *pool.by_id.get(inner.host().id())?;
        pool.members[position].counters().count_attempt();
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

    /// Why this host was chosen.
    pub fn reason(&self) -> SelectionReason {
        self.reason
    }

    /// How long the request waited in the queue.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    pub(super) fn with_wait(mut self, waited: Duration) -> Self {
        self.waited = waited;
        self
    }

    /// The outcome that a response with this status has for the host.
    pub fn outcome_of(&self, status: u16) -> Outcome {
        self.pool.outcome_of(status)
    }

    /// Whether this request probes an ejected host.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Reports that the response has started, which settles a probe: the rest of a response may take hours. The
    /// outcome of the whole request is still to be reported with [`observe`](Self::observe).
    pub fn response_started(&mut self, outcome: Outcome) {
        if outcome == Outcome::Success {
            self.member().count_success();
        }
        if std::mem::take(&mut self.probe) {
            self.pool.finish_probe(self.member(), outcome);
        }
    }

    /// Ends the lease and reports the outcome of the request. If the client ended the request, drop the lease instead.
    /// `latency` is the time until the response began or the host failed.
    pub fn observe(mut self, latency: Duration, outcome: Outcome) {
        if let Some(inner) = self.inner.take() {
            inner.finish(match outcome {
                Outcome::Success => balancer::Outcome::success(latency),
                Outcome::Failure(_) => balancer::Outcome::failure(latency),
            });
        }
        let member = &self.pool.members[self.position];
        if outcome != Outcome::Success {
            member.counters().count_error();
        }
        if self.probe {
            self.probe = false;
            self.pool.finish_probe(member, outcome);
        } else if member.epoch() == self.epoch {
            // A request from before an ejection says nothing about the host after it.
            self.pool.record_outcome(member, outcome);
        }
    }
}

impl Drop for PoolLease {
    fn drop(&mut self) {
        // End the count before a waiting request is woken to see it.
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

impl Pool {
    /// Leases the `preferred` host if it can take the request, else a host that the balancer picks. `repeatable` says
    /// whether the request can be retried on another host if this one fails.
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] if no host is usable and `when_all_down` is not `try_all`; [`BalancerError::Busy`] if
    /// all hosts are full or other requests are waiting.
    pub fn try_lease(
        self: &Arc<Self>,
        request: &Selection<'_>,
        preferred: Option<&HostId>,
        repeatable: bool,
    ) -> Result<PoolLease, BalancerError> {
        // A new request must not overtake those in the queue.
        match self.queue.waiting() {
            0 => self.lease_preferred(request, preferred, repeatable),
            _ => Err(BalancerError::Busy),
        }
    }

    /// Like [`try_lease`](Self::try_lease), but waits in the queue while every host is full. Dropping the future leaves
    /// the queue.
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] as above; [`BalancerError::Busy`] if the queue is full or the wait timed out.
    pub async fn lease_queued(
        self: &Arc<Self>,
        request: &Selection<'_>,
        preferred: Option<&HostId>,
        repeatable: bool,
    ) -> Result<PoolLease, BalancerError> {
        let joined = Instant::now();
        let attempt = || self.lease_preferred(request, preferred, repeatable);
        let lease = self.queue.wait(attempt).await?;
        Ok(lease.with_wait(joined.elapsed()))
    }

    fn lease_preferred(
        self: &Arc<Self>,
        request: &Selection<'_>,
        preferred: Option<&HostId>,
        repeatable: bool,
    ) -> Result<PoolLease, BalancerError> {
        let (counted, why) = self.select(request, preferred, repeatable, &CountedAcquire)?;
        PoolLease::new(self, counted, why).ok_or(BalancerError::NoHosts)
    }

    /// Leases a host for a retry. It does not wait in the queue.
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] and [`BalancerError::Busy`].
    pub fn lease(
        self: &Arc<Self>,
        request: &Selection<'_>,
        repeatable: bool,
    ) -> Result<PoolLease, BalancerError> {
        let (counted, why) = self.select(request, None, repeatable, &CountedAcquire)?;
        PoolLease::new(self, counted, why).ok_or(BalancerError::NoHosts)
    }

    /// Leases this host if it currently takes requests.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if it does not; [`BalancerError::Busy`] if it is full.
    pub fn lease_of(self: &Arc<Self>, id: &HostId) -> Result<PoolLease, BalancerError> {
        let counted = self.acquire_preferred(id, &CountedAcquire)?;
        let unknown = || BalancerError::UnknownHost(id.clone());
        PoolLease::new(self, counted, SelectionReason::Sticky).ok_or_else(unknown)
    }
}
