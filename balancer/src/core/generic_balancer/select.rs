//! Picks a host from one snapshot, with regard to the hosts that the request has tried and to slow starts.

use std::sync::Arc;

use super::{EligibleHosts, GenericBalancer, Snapshot};
use crate::core::error::BalancerError;
use crate::core::explanation::CandidateReason;
use crate::core::pick_request::PickRequest;
use crate::core::selection::Selection;
use crate::core::slot::Slot;
use crate::core::trace::{NoTrace, PickTrace};

/// Picks in a row that may be held back before a host in slow start keeps the request. If all hosts are in slow start,
/// each gets an equal share after that many.
const MAX_HELD_BACK: usize = 8;

impl GenericBalancer {
    /// Picks a position with `pick` and returns its slot. With hosts in slow start, the pick does not count; `count`
    /// then counts the request, and returns `false` if the host is full.
    pub(super) fn select(
        &self,
        selection: &Selection<'_>,
        pick: impl Fn(&EligibleHosts, &PickRequest<'_>) -> Option<usize>,
        count: impl Fn(&Slot) -> bool,
    ) -> Result<Arc<Slot>, BalancerError> {
        loop {
            let chosen = self.snapshot.read(|snapshot| {
                self.consider(snapshot, selection, |eligible, request| {
                    let position = self.position(eligible, request, &NoTrace, &pick, &count);
                    let position = eligible.finish(&request, position)?;
                    Ok(position.map(|position| Arc::clone(&eligible.slots[position])))
                })
            });
            match chosen {
                Ok(Some(slot)) => return Ok(slot),
                // The picker saw every host leave or fill up: a newer snapshot is or will soon be available, or a host
                // has room again.
                Ok(None) => std::hint::spin_loop(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Calls `with` with the request and the current state of `snapshot`. If the request has tried all hosts, it starts
    /// over.
    pub(super) fn consider<T>(
        &self,
        snapshot: &Snapshot,
        selection: &Selection<'_>,
        with: impl FnOnce(&EligibleHosts, PickRequest<'_>) -> Result<T, BalancerError>,
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
            let now = self.pool_stats.ramping()?;
            Some(start.at(now))
        });
        let request = PickRequest::new(selection, &self.pool_stats, eligible.limited, ramp);
        with(eligible, request)
    }

    /// The position that `pick` returns, with regard to slow starts.
    pub(super) fn position<T: PickTrace>(
        &self,
        eligible: &EligibleHosts,
        request: PickRequest<'_>,
        trace: &T,
        pick: impl Fn(&EligibleHosts, &PickRequest<'_>) -> Option<usize>,
        count: impl Fn(&Slot) -> bool,
    ) -> Option<usize> {
        if !request.has_slow_start() {
            return pick(eligible, &request);
        }
        self.select_by_share(eligible, request, trace, count)
            // No other host accepts the request, or all picked hosts are in slow start.
            .or_else(|| pick(eligible, &request))
    }

    /// Repeats the pick until a host keeps the request: a host does so with the probability of its share, else the next
    /// pick skips it. Only then is the request counted, so a host never looks full because of a request that it does
    /// not get.
    fn select_by_share<T: PickTrace>(
        &self,
        eligible: &EligibleHosts,
        request: PickRequest<'_>,
        trace: &T,
        count: impl Fn(&Slot) -> bool,
    ) -> Option<usize> {
        let mut held_back = None;
        for _ in 0..MAX_HELD_BACK {
            let position = trace.pick(&*eligible.picker, &request.skip(held_back))?;
            let slot = &eligible.slots[position];
            let share = request.share(slot);
            if share < 1.0 && !self.rng.chance(share, trace) {
                trace.reject(position, CandidateReason::Starting);
                held_back = Some(position);
            } else if count(slot) {
                return Some(position);
            }
        }
        None
    }
}

impl EligibleHosts {
    /// The result of a pick: `None` if it found no host although one accepts the request, so that it must be repeated.
    pub(super) fn finish(
        &self,
        request: &PickRequest<'_>,
        position: Option<usize>,
    ) -> Result<Option<usize>, BalancerError> {
        match position {
            None if !self.has_room(request) => Err(BalancerError::Busy),
            position => Ok(position),
        }
    }

    /// Whether any host accepts `request`.
    fn has_room(&self, request: &PickRequest<'_>) -> bool {
        let mut slots = self.slots.iter().enumerate();
        slots.any(|(position, slot)| request.accepts(position, slot))
    }
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
            .filter(|(_, id)| self.by_id.get(*id).is_some_and(|s| s.host.weight() > 0))
            .count();
        self.eligible.as_ref().is_some_and(|c| here < c.slots.len())
    }
}
