//! Which host a request gets: the order of resort, written once for leases and for what explains them.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::outlier_detector::{EjectionStage, OutlierDetector};
use super::tiers::Tier;
use super::{Member, Pool, SelectionReason};
use crate::balancer::{self, Balancer, BalancerError, HostId, Selection};

/// How long an ejected host waits for a request that can be sent again if the host fails it, too; after that any will do.
const MAX_PROBE_WAIT: Duration = Duration::from_secs(5);

/// What becomes of a host that has been found.
pub(super) trait Acquire {
    /// The host, taken.
    type Acquired;

    /// Takes the choice of `balancer`.
    fn from_balancer(
        &self,
        balancer: &dyn Balancer,
        request: &Selection<'_>,
    ) -> Result<Self::Acquired, BalancerError>;

    /// Takes this member of `balancer`.
    fn from_member(
        &self,
        balancer: &dyn Balancer,
        member: &Member,
    ) -> Result<Self::Acquired, BalancerError>;

    /// The member that was taken is to prove itself. `record` is its record, which is held since before it was taken.
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

    fn from_balancer(
        &self,
        balancer: &dyn Balancer,
        request: &Selection<'_>,
    ) -> Result<balancer::Lease, BalancerError> {
        balancer.lease(request)
    }

    fn from_member(
        &self,
        balancer: &dyn Balancer,
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
    /// Takes the host that the request wants, if it wants one and that one can have it, else the one that is its turn.
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

    /// Takes a host that was chosen elsewhere, if it is one that requests go to now.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if it is not; [`BalancerError::Busy`] if it is full.
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
            true => acquire.from_member(&*self.tiers[tier as usize], member),
            false => Err(unknown()),
        }
    }

    /// Whether a lease could now go to a host that is not in `tried`.
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

    /// The choice for a request that has tried no host: from the first tier that has any.
    fn select_first<T: Acquire>(
        &self,
        request: &Selection<'_>,
        acquire: &T,
    ) -> Result<(T::Acquired, SelectionReason), BalancerError> {
        for tier in Tier::SERVING {
            match acquire.from_balancer(&*self.tiers[tier as usize], request) {
                Err(BalancerError::NoHosts) => {}
                outcome => return Ok((outcome?, tier.reason())),
            }
        }
        match self.try_all {
            true => Ok((
                acquire.from_balancer(&*self.all, request)?,
                SelectionReason::AnyHost,
            )),
            false => Err(BalancerError::NoHosts),
        }
    }

    /// The choice for one that has: from the first tier that has a host it has not tried. Before a host that has failed
    /// the request gets it again, one that is ejected does: it may be well by now.
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
                match acquire.from_balancer(&*self.tiers[tier as usize], request) {
                    Err(BalancerError::NoHosts) => {}
                    outcome => return Ok((outcome?, tier.reason())),
                }
            }
        }
        match self.ejected_untried(tried) {
            Some(member) => Ok((
                acquire.from_member(&*self.all, member)?,
                SelectionReason::Ejected,
            )),
            None => self.select_first(request, acquire),
        }
    }

    /// An ejected host that the checks call healthy and the request has not tried.
    fn ejected_untried(&self, tried: &[HostId]) -> Option<&Member> {
        self.members.iter().find(|member| {
            member.tier() == Tier::Out && member.is_healthy() && !tried.contains(member.host().id())
        })
    }

    /// Takes a host that waits to prove itself, if one does.
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
            let Ok(taken) = acquire.from_member(&*self.all, member) else {
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
