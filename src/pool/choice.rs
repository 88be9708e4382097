//! Which host a request gets: the order of resort, written once for leases and for what explains them.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ejection::{Record, Stage};
use super::tiers::Tier;
use super::{Member, Pool, Why};
use crate::balancer::{self, Balancer, BalancerError, HostId, Selection};

/// How long an ejected host waits for a request that can be sent again if the host fails it, too; after that any will do.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of a host that has been found.
pub(super) trait Take {
    /// The host, taken.
    type Taken;

    /// Takes the choice of `balancer`.
    fn choice(
        &self,
        balancer: &dyn Balancer,
        request: &Selection<'_>,
    ) -> Result<Self::Taken, BalancerError>;

    /// Takes this member of `balancer`.
    fn member(
        &self,
        balancer: &dyn Balancer,
        member: &Member,
    ) -> Result<Self::Taken, BalancerError>;

    /// The member that was taken is to prove itself. `record` is its record, which is held since before it was taken.
    fn begin_probe(&self, pool: &Pool, member: &Member, record: MutexGuard<'_, Record>);
}

/// Counts the request on the host.
pub(super) struct Counting;

impl Take for Counting {
    type Taken = balancer::Lease;

    fn choice(
        &self,
        balancer: &dyn Balancer,
        request: &Selection<'_>,
    ) -> Result<balancer::Lease, BalancerError> {
        balancer.lease(request)
    }

    fn member(
        &self,
        balancer: &dyn Balancer,
        member: &Member,
    ) -> Result<balancer::Lease, BalancerError> {
        balancer.lease_of(member.host().id())
    }

    fn begin_probe(&self, pool: &Pool, member: &Member, mut record: MutexGuard<'_, Record>) {
        record.begin_probe();
        drop(record);
        pool.set_due(member, false);
    }
}

impl Pool {
    /// Takes the host that the request wants, if it wants one and that one can have it, else the one that is its turn.
    pub(super) fn choose<T: Take>(
        &self,
        request: &Selection<'_>,
        wanted: Option<&HostId>,
        repeatable: bool,
        take: &T,
    ) -> Result<(T::Taken, Why), BalancerError> {
        if let Some(Ok(taken)) = wanted.map(|id| self.wanted(id, take)) {
            return Ok((taken, Why::Sticky));
        }
        if self.due.load(Ordering::Relaxed) > 0
            && let Some(taken) = self.probe(request, repeatable, take)
        {
            return Ok((taken, Why::Probe));
        }
        match request.tried_hosts() {
            [] => self.first_choice(request, take),
            tried => self.next_choice(request, tried, take),
        }
    }

    /// Takes a host that was chosen elsewhere, if it is one that requests go to now.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if it is not; [`BalancerError::Busy`] if it is full.
    pub(super) fn wanted<T: Take>(&self, id: &HostId, take: &T) -> Result<T::Taken, BalancerError> {
        let unknown = || BalancerError::UnknownHost(id.clone());
        let member = self.member(id).ok_or_else(unknown)?;
        let tier = member.tier();
        let serves = match tier {
            Tier::Primary => true,
            Tier::Backup => !self.has_in(Tier::Primary),
            Tier::Draining | Tier::Out => false,
        };
        match serves {
            true => take.member(&*self.tiers[tier as usize], member),
            false => Err(unknown()),
        }
    }

    /// Whether a lease could now go to a host that is not in `tried`.
    pub fn has_another(&self, tried: &[HostId]) -> bool {
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
    fn first_choice<T: Take>(
        &self,
        request: &Selection<'_>,
        take: &T,
    ) -> Result<(T::Taken, Why), BalancerError> {
        for tier in Tier::SERVING {
            match take.choice(&*self.tiers[tier as usize], request) {
                Err(BalancerError::NoHosts) => {}
                outcome => return Ok((outcome?, tier.why())),
            }
        }
        match self.try_all {
            true => Ok((take.choice(&*self.all, request)?, Why::AnyHost)),
            false => Err(BalancerError::NoHosts),
        }
    }

    /// The choice for one that has: from the first tier that has a host it has not tried. Before a host that has failed
    /// the request gets it again, one that is ejected does: it may be well by now.
    fn next_choice<T: Take>(
        &self,
        request: &Selection<'_>,
        tried: &[HostId],
        take: &T,
    ) -> Result<(T::Taken, Why), BalancerError> {
        for tier in Tier::SERVING {
            let here = |member: &&Member| member.tier() == tier;
            let mut members = self.members.iter().filter(here);
            if members.any(|member| !tried.contains(member.host().id())) {
                match take.choice(&*self.tiers[tier as usize], request) {
                    Err(BalancerError::NoHosts) => {}
                    outcome => return Ok((outcome?, tier.why())),
                }
            }
        }
        match self.ejected_untried(tried) {
            Some(member) => Ok((take.member(&*self.all, member)?, Why::Ejected)),
            None => self.first_choice(request, take),
        }
    }

    /// An ejected host that the checks call healthy and the request has not tried.
    fn ejected_untried(&self, tried: &[HostId]) -> Option<&Member> {
        self.members.iter().find(|member| {
            member.tier() == Tier::Out && member.is_healthy() && !tried.contains(member.host().id())
        })
    }

    /// Takes a host that waits to prove itself, if one does.
    fn probe<T: Take>(
        &self,
        request: &Selection<'_>,
        repeatable: bool,
        take: &T,
    ) -> Option<T::Taken> {
        let untried = |member: &&Member| !request.tried_hosts().contains(member.host().id());
        for member in self.members.iter().filter(|member| member.is_due()) {
            let record = member.record();
            let Stage::Due { since } = record.stage() else {
                continue;
            };
            let suits = repeatable || Instant::now() >= since + PROBE_PATIENCE;
            if !suits || !untried(&member) {
                continue;
            }
            let Ok(taken) = take.member(&*self.all, member) else {
                continue;
            };
            take.begin_probe(self, member, record);
            return Some(taken);
        }
        None
    }

    fn has_in(&self, tier: Tier) -> bool {
        self.members.iter().any(|member| member.tier() == tier)
    }
}
