//! How a host is chosen: on one snapshot, with regard to what the request has tried and to slow starts.

use std::sync::Arc;

use super::{Arrangement, GenericBalancer, Snapshot};
use crate::balancer::core::error::BalancerError;
use crate::balancer::core::explanation::CandidateReason;
use crate::balancer::core::pick_request::PickRequest;
use crate::balancer::core::selection::Selection;
use crate::balancer::core::slot::Slot;
use crate::balancer::core::trace::{NoTrace, PickTrace};

/// Choices that are held back in a row before one stands although its host starts slowly. When all hosts do, each gets an
/// equal share after that many.
const MAX_HELD_BACK: usize = 8;

impl GenericBalancer {
    /// Chooses by `pick`, which gives a position, and returns what sits there. Where a host starts slowly, `count` takes
    /// what a choice without counting has found, or says that it cannot.
    pub(super) fn select(
        &self,
        selection: &Selection<'_>,
        pick: impl Fn(&Arrangement, &PickRequest<'_>) -> Option<usize>,
        count: impl Fn(&Slot) -> bool,
    ) -> Result<Arc<Slot>, BalancerError> {
        loop {
            let chosen = self.snapshot.read(|snapshot| {
                self.consider(snapshot, selection, |arrangement, request| {
                    let position = self.position(arrangement, request, &NoTrace, &pick, &count);
                    let position = arrangement.settle(&request, position)?;
                    Ok(position.map(|position| Arc::clone(&arrangement.slots[position])))
                })
            });
            match chosen {
                Ok(Some(slot)) => return Ok(slot),
                // The picker saw every host leave or fill up: a newer snapshot is there or will be in a moment, or
                // there is room again.
                Ok(None) => std::hint::spin_loop(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Does something with the request as it stands to the hosts of `snapshot` at this moment.
    pub(super) fn consider<T>(
        &self,
        snapshot: &Snapshot,
        selection: &Selection<'_>,
        with: impl FnOnce(&Arrangement, PickRequest<'_>) -> Result<T, BalancerError>,
    ) -> Result<T, BalancerError> {
        let arrangement = snapshot
            .arrangement
            .as_ref()
            .ok_or(BalancerError::NoHosts)?;
        let afresh;
        let selection = if snapshot.leaves_another(selection) {
            selection
        } else {
            afresh = selection.tried(&[]);
            &afresh
        };
        let ramp = self.slow_start.as_ref().and_then(|start| {
            let now = self.pool_stats.ramping()?;
            Some(start.at(now))
        });
        let request = PickRequest::new(selection, &self.pool_stats, arrangement.limited, ramp);
        with(arrangement, request)
    }

    /// The position that `pick` gives, with regard to slow starts.
    pub(super) fn position<T: PickTrace>(
        &self,
        arrangement: &Arrangement,
        request: PickRequest<'_>,
        trace: &T,
        pick: impl Fn(&Arrangement, &PickRequest<'_>) -> Option<usize>,
        count: impl Fn(&Slot) -> bool,
    ) -> Option<usize> {
        if !request.has_slow_start() {
            return pick(arrangement, &request);
        }
        self.select_by_share(arrangement, request, trace, count)
            // No other was left to be chosen, or all that were start slowly.
            .or_else(|| pick(arrangement, &request))
    }

    /// Chooses until a choice stands: a host stands with the probability of its share, and is passed over in the next
    /// choice if not. It is counted only then, so that nobody finds it full for a request that it does not get.
    fn select_by_share<T: PickTrace>(
        &self,
        arrangement: &Arrangement,
        request: PickRequest<'_>,
        trace: &T,
        count: impl Fn(&Slot) -> bool,
    ) -> Option<usize> {
        let mut held_back = None;
        for _ in 0..MAX_HELD_BACK {
            let position = trace.pick(&*arrangement.picker, &request.skip(held_back))?;
            let slot = &arrangement.slots[position];
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

impl Arrangement {
    /// What a choice comes to: `None` if it found no host although there is one, so that it has to be made again.
    pub(super) fn settle(
        &self,
        request: &PickRequest<'_>,
        position: Option<usize>,
    ) -> Result<Option<usize>, BalancerError> {
        match position {
            None if !self.has_room(request) => Err(BalancerError::Busy),
            position => Ok(position),
        }
    }

    /// Whether `request` may take a host of this arrangement.
    fn has_room(&self, request: &PickRequest<'_>) -> bool {
        let mut slots = self.slots.iter().enumerate();
        slots.any(|(position, slot)| request.accepts(position, slot))
    }
}

impl Snapshot {
    /// Whether a host that can take requests is left that `request` has not tried.
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
        self.arrangement
            .as_ref()
            .is_some_and(|c| here < c.slots.len())
    }
}
