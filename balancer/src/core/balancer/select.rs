//! Picks a host from one snapshot, with regard to the hosts that the request has tried and to slow starts.

use std::sync::Arc;

use super::membership::{Eligible, Snapshot};
use super::{Balancer, Member};
use crate::core::error::BalancerError;
use crate::core::explanation::CandidateReason;
use crate::core::hosts::Hosts;
use crate::core::pick::{Pick, Picker};
use crate::core::rng::Rng;
use crate::core::selection::Selection;
use crate::core::trace::Trace;

/// Picks in a row that may be held back before a host in slow start keeps the request. If all hosts are in slow start,
/// each gets an equal share after that many.
const MAX_HELD_BACK: usize = 8;

impl Balancer {
    /// Picks until `count` takes the pick. It does not if another thread was faster, so some thread always makes progress.
    pub(super) fn select(
        &self,
        selection: &Selection<'_>,
        count: impl Fn(&Member, &Pick) -> bool,
    ) -> Result<Arc<Member>, BalancerError> {
        loop {
            let chosen = self.snapshot.read(|snapshot| {
                self.consider(snapshot, selection, |eligible, hosts| {
                    let pick = eligible.pick(hosts, &self.sequence.take(), Trace::NONE);
                    let pick = eligible.checked(&hosts, pick)?;
                    let member = pick.map(|pick| (&eligible.members[pick.position], pick));
                    let counted = member.filter(|(member, pick)| count(member, pick));
                    Ok(counted.map(|(member, _)| Arc::clone(member)))
                })
            });
            if let Some(member) = chosen? {
                return Ok(member);
            }
        }
    }

    /// Calls `with` with the hosts of `snapshot` and the current state. If the request has tried all hosts, it starts over.
    pub(super) fn consider<T>(
        &self,
        snapshot: &Snapshot,
        selection: &Selection<'_>,
        with: impl FnOnce(&Eligible, Hosts<'_>) -> Result<T, BalancerError>,
    ) -> Result<T, BalancerError> {
        let eligible = snapshot.eligible.as_ref().ok_or(BalancerError::NoHosts)?;
        let untried;
        let selection = if snapshot.leaves_another(selection) {
            selection
        } else {
            untried = selection.tried(&[]);
            &untried
        };
        let ramp = self.slow_start.as_ref().and_then(|start| {
            let now = self.pool.ramping()?;
            Some(start.at(now))
        });
        let hosts = Hosts {
            members: &eligible.members,
            selection,
            pool: &self.pool,
            limited: eligible.limited,
            skipped: None,
            ramp,
        };
        with(eligible, hosts)
    }
}

impl Eligible {
    /// The picker for the request.
    pub(super) fn picker_for(&self, hosts: &Hosts<'_>) -> &dyn Picker {
        match &self.fallback {
            Some(fallback) if !self.picker.has_key(hosts) => &**fallback,
            _ => &*self.picker,
        }
    }

    /// Picks a host, with regard to slow starts.
    #[inline]
    pub(super) fn pick(&self, hosts: Hosts<'_>, rng: &Rng<'_>, trace: Trace<'_>) -> Option<Pick> {
        let picker = self.picker_for(&hosts);
        if hosts.ramp.is_none() {
            return picker.pick(&hosts, rng, trace);
        }
        pick_by_share(picker, hosts, rng, trace)
            // No other host accepts the request, or all picked hosts are in slow start.
            .or_else(|| picker.pick(&hosts, rng, trace))
    }

    /// `pick`, or `None` if it has to be repeated: it found no host, and meanwhile one has room.
    pub(super) fn checked(
        &self,
        hosts: &Hosts<'_>,
        pick: Option<Pick>,
    ) -> Result<Option<Pick>, BalancerError> {
        let has_room = || (0..hosts.len()).any(|position| hosts.accepts(position));
        match pick {
            None if !has_room() => Err(BalancerError::Busy),
            pick => Ok(pick),
        }
    }
}

/// Repeats the pick until a host keeps the request: a host does so with the probability of its share, else the next pick
/// skips it.
fn pick_by_share(
    picker: &dyn Picker,
    mut hosts: Hosts<'_>,
    rng: &Rng<'_>,
    trace: Trace<'_>,
) -> Option<Pick> {
    for _ in 0..MAX_HELD_BACK {
        let pick = picker.pick(&hosts, rng, trace)?;
        let share = hosts.share(hosts.member(pick.position));
        if share >= 1.0 || rng.chance(share) {
            return Some(pick);
        }
        trace.reject(pick.position, CandidateReason::Starting);
        hosts.skipped = Some(pick.position);
    }
    None
}

impl Snapshot {
    /// Whether `request` has not tried every host that can take requests.
    fn leaves_another(&self, request: &Selection<'_>) -> bool {
        let tried = request.tried_hosts();
        if tried.is_empty() {
            return true;
        }
        let here = tried
            .iter()
            .enumerate()
            .filter(|&(i, id)| !tried[..i].contains(id))
            .filter(|(_, id)| {
                let member = self.by_id.get(*id);
                member.is_some_and(|member| member.weight > 0)
            })
            .count();
        self.eligible
            .as_ref()
            .is_some_and(|eligible| here < eligible.members.len())
    }
}
