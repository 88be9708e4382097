//! How a host is chosen: on one snapshot, with regard to what the request has tried and to slow starts.

use std::sync::Arc;

use super::{Choice, Members, Snapshot};
use crate::balancer::mechanics::error::BalancerError;
use crate::balancer::mechanics::explanation::Reason;
use crate::balancer::mechanics::mode::{Earnest, Mode};
use crate::balancer::mechanics::request::Request;
use crate::balancer::mechanics::seat::Seat;
use crate::balancer::mechanics::selection::Selection;

/// Choices that are held back in a row before one stands although its host starts slowly. When all hosts do, each gets an
/// equal share after that many.
const MOST_HELD_BACK: usize = 8;

impl Members {
    /// Chooses by `choose`, which gives a position, and returns what sits there. Where a host starts slowly, `count` takes
    /// what a choice without counting has found, or says that it cannot.
    pub(super) fn choose(
        &self,
        selection: &Selection<'_>,
        choose: impl Fn(&Choice, &Request<'_>) -> Option<usize>,
        count: impl Fn(&Seat) -> bool,
    ) -> Result<Arc<Seat>, BalancerError> {
        loop {
            let chosen = self.snapshot.read(|snapshot| {
                self.consider(snapshot, selection, |choice, request| {
                    let position = self.position(choice, request, &Earnest, &choose, &count);
                    let position = choice.settle(&request, position)?;
                    Ok(position.map(|position| Arc::clone(&choice.seats[position])))
                })
            });
            match chosen {
                Ok(Some(seat)) => return Ok(seat),
                // The chooser saw every host leave or fill up: a newer snapshot is there or will be in a moment, or
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
        with: impl FnOnce(&Choice, Request<'_>) -> Result<T, BalancerError>,
    ) -> Result<T, BalancerError> {
        let choice = snapshot.choice.as_ref().ok_or(BalancerError::NoHosts)?;
        let afresh;
        let selection = if snapshot.leaves_another(selection) {
            selection
        } else {
            afresh = selection.tried(&[]);
            &afresh
        };
        let ramp = self.slow_start.as_ref().and_then(|start| {
            let now = self.conditions.ramping()?;
            Some(start.at(now))
        });
        let request = Request::new(selection, &self.conditions, choice.limited, ramp);
        with(choice, request)
    }

    /// The position that `choose` gives, with regard to slow starts.
    pub(super) fn position<M: Mode>(
        &self,
        choice: &Choice,
        request: Request<'_>,
        mode: &M,
        choose: impl Fn(&Choice, &Request<'_>) -> Option<usize>,
        count: impl Fn(&Seat) -> bool,
    ) -> Option<usize> {
        if !request.meets_slow_starts() {
            return choose(choice, &request);
        }
        self.choose_by_share(choice, request, mode, count)
            // No other was left to be chosen, or all that were start slowly.
            .or_else(|| choose(choice, &request))
    }

    /// Chooses until a choice stands: a host stands with the probability of its share, and is passed over in the next
    /// choice if not. It is counted only then, so that nobody finds it full for a request that it does not get.
    fn choose_by_share<M: Mode>(
        &self,
        choice: &Choice,
        request: Request<'_>,
        mode: &M,
        count: impl Fn(&Seat) -> bool,
    ) -> Option<usize> {
        let mut held_back = None;
        for _ in 0..MOST_HELD_BACK {
            let position = mode.pick(&*choice.chooser, &request.skip(held_back))?;
            let seat = &choice.seats[position];
            let share = request.share(seat);
            if share < 1.0 && !self.rng.chance(share, mode) {
                mode.passes(position, Reason::Starting);
                held_back = Some(position);
            } else if count(seat) {
                return Some(position);
            }
        }
        None
    }
}

impl Choice {
    /// What a choice comes to: `None` if it found no host although there is one, so that it has to be made again.
    pub(super) fn settle(
        &self,
        request: &Request<'_>,
        position: Option<usize>,
    ) -> Result<Option<usize>, BalancerError> {
        match position {
            None if !self.has_room(request) => Err(BalancerError::Busy),
            position => Ok(position),
        }
    }

    /// Whether `request` may take a host of this arrangement.
    fn has_room(&self, request: &Request<'_>) -> bool {
        let mut seats = self.seats.iter().enumerate();
        seats.any(|(position, seat)| request.may_take(position, seat))
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
        self.choice.as_ref().is_some_and(|c| here < c.seats.len())
    }
}
