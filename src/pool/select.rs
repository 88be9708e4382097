//! Selects the host of a request: the order of preference, written once for leases and for their explanation.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::outlier_detector::{EjectionStage, OutlierDetector};
use super::tiers::Tier;
use super::{Member, Pool, SelectionReason};
use ballast_balancer::{self as balancer, Balancer, BalancerError, HostId, Selection};

/// How long an ejected host waits for a retryable request to probe it; after that any request will do.
const MAX_PROBE_WAIT: Duration = Duration::from_secs(5);

/// What to do with the host that was found: count the request on it, or only explain.
pub(super) trait Acquire {
    type Acquired;

    /// Acquires the host that `balancer` picks.
    fn acquire_picked(
        &self,
        balancer: &Balancer,
        request: &Selection<'_>,
    ) -> Result<Self::Acquired, BalancerError>;

    /// Acquires this member of `balancer`.
    fn acquire_member(
        &self,
        balancer: &Balancer,
        member: &Member,
    ) -> Result<Self::Acquired, BalancerError>;

    /// Begins the probe of the acquired member. Its `outlier_detector` has been locked since before the member was
    /// acquired.
    fn begin_probe(
        &self,
        pool: &Pool,
        member: &Member,
        outlier_detector: MutexGuard<'_, OutlierDetector>,
    );
}

/// Counts the request on the host.
pub(super) struct CountedAcquire;

impl Acquire for CountedAcquire {
    type Acquired = balancer::Lease;

    fn acquire_picked(
        &self,
        balancer: &Balancer,
        request: &Selection<'_>,
    ) -> Result<balancer::Lease, BalancerError> {
        balancer.lease(request)
    }

    fn acquire_member(
        &self,
        balancer: &Balancer,
        member: &Member,
    ) -> Result<balancer::Lease, BalancerError> {
        balancer.lease_of(member.host().id())
    }

    fn begin_probe(
        &self,
        pool: &Pool,
        member: &Member,
        mut outlier_detector: MutexGuard<'_, OutlierDetector>,
    ) {
        outlier_detector.begin_probe();
        drop(outlier_detector);
        pool.set_probe_due(member, false);
    }
}

impl Pool {
    /// Acquires the `preferred` host if it can take the request, else the host whose turn it is.
    pub(super) fn select<T: Acquire>(
        &self,
        request: &Selection<'_>,
        preferred: Option<&HostId>,
        repeatable: bool,
        acquire: &T,
    ) -> Result<(T::Acquired, SelectionReason), BalancerError> {
        if let Some(Ok(taken)) = preferred.map(|id| self.acquire_preferred(id, acquire)) {
            return Ok((taken, SelectionReason::Sticky));
        }
        if self.probes_due.load(Ordering::Relaxed) > 0
            && let Some(taken) = self.acquire_probe(request, repeatable, acquire)
        {
            return Ok((taken, SelectionReason::Probe));
        }
        match request.tried_hosts() {
            [] => self.select_first(request, acquire),
            tried => self.select_retry(request, tried, acquire),
        }
    }

    /// Acquires this host if it currently takes requests.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if it does not; [`BalancerError::Busy`] if it is full.
    pub(super) fn acquire_preferred<T: Acquire>(
        &self,
        id: &HostId,
        acquire: &T,
    ) -> Result<T::Acquired, BalancerError> {
        let unknown = || BalancerError::UnknownHost(id.clone());
        let member = self.member(id).ok_or_else(unknown)?;
        let tier = member.tier();
        let serves = match tier {
            Tier::Primary => true,
            Tier::Backup => !self.has_in(Tier::Primary),
            Tier::Draining | Tier::Out => false,
        };
        match serves {
            true => acquire.acquire_member(&self.tiers[tier as usize], member),
            false => Err(unknown()),
        }
    }

    /// Whether a lease could currently go to a host that is not in `tried`.
    pub fn has_untried_host(&self, tried: &[HostId]) -> bool {
        let untried = |member: &Member| !tried.contains(member.host().id());
        let mut serving = self
            .members
            .iter()
            .filter(|member| member.tier() != Tier::Out)
            .peekable();
        if serving.peek().is_none() && self.try_all {
            let mut all = self.members.iter();
            return all.any(|member| member.host().weight() > 0 && untried(member));
        }
        serving.any(untried) || self.ejected_untried(tried).is_some()
    }

    /// Selects for a request that has tried no host: from the first tier that has hosts.
    fn select_first<T: Acquire>(
        &self,
        request: &Selection<'_>,
        acquire: &T,
    ) -> Result<(T::Acquired, SelectionReason), BalancerError> {
        for tier in Tier::SERVING {
            match acquire.acquire_picked(&self.tiers[tier as usize], request) {
                Err(BalancerError::NoHosts) => {}
                outcome => return Ok((outcome?, tier.reason())),
            }
        }
        match self.try_all {
            true => Ok((
                acquire.acquire_picked(&self.all, request)?,
                SelectionReason::AnyHost,
            )),
            false => Err(BalancerError::NoHosts),
        }
    }

    /// Selects for a retry: from the first tier with an untried host. An ejected host comes before one that has failed
    /// this request already: it may have recovered.
    fn select_retry<T: Acquire>(
        &self,
        request: &Selection<'_>,
        tried: &[HostId],
        acquire: &T,
    ) -> Result<(T::Acquired, SelectionReason), BalancerError> {
        for tier in Tier::SERVING {
            let here = |member: &&Member| member.tier() == tier;
            let mut members = self.members.iter().filter(here);
            if members.any(|member| !tried.contains(member.host().id())) {
                match acquire.acquire_picked(&self.tiers[tier as usize], request) {
                    Err(BalancerError::NoHosts) => {}
                    outcome => return Ok((outcome?, tier.reason())),
                }
            }
        }
        match self.ejected_untried(tried) {
            Some(member) => Ok((
                acquire.acquire_member(&self.all, member)?,
                SelectionReason::Ejected,
            )),
            None => self.select_first(request, acquire),
        }
    }

    /// An untried host that is ejected but passes its checks.
    fn ejected_untried(&self, tried: &[HostId]) -> Option<&Member> {
        self.members.iter().find(|member| {
            member.tier() == Tier::Out && member.is_healthy() && !tried.contains(member.host().id())
        })
    }

    /// Acquires a host that waits for a probe, if there is one.
    fn acquire_probe<T: Acquire>(
        &self,
        request: &Selection<'_>,
        repeatable: bool,
        acquire: &T,
    ) -> Option<T::Acquired> {
        let untried = |member: &&Member| !request.tried_hosts().contains(member.host().id());
        for member in self.members.iter().filter(|member| member.is_probe_due()) {
            let outlier_detector = member.outlier_detector();
            let EjectionStage::ProbeDue { since } = outlier_detector.stage() else {
                continue;
            };
            let suits = repeatable || Instant::now() >= since + MAX_PROBE_WAIT;
            if !suits || !untried(&member) {
                continue;
            }
            let Ok(taken) = acquire.acquire_member(&self.all, member) else {
                continue;
            };
            acquire.begin_probe(self, member, outlier_detector);
            return Some(taken);
        }
        None
    }

    fn has_in(&self, tier: Tier) -> bool {
        self.members.iter().any(|member| member.tier() == tier)
    }
}
