//! Choices explained: rehearsed on the newest snapshot, and put down host by host.

use super::{Choice, Members, Snapshot};
use crate::balancer::mechanics::error::BalancerError;
use crate::balancer::mechanics::explanation::{Candidate, Explanation, Reason};
use crate::balancer::mechanics::mode::Mode;
use crate::balancer::mechanics::rehearsal::{Note, Rehearsal};
use crate::balancer::mechanics::request::Request;
use crate::balancer::mechanics::seat::Seat;
use crate::balancer::mechanics::selection::Selection;

impl Members {
    /// What a lease would choose, and why.
    pub(super) fn explanation(&self, selection: &Selection<'_>) -> Explanation {
        loop {
            let snapshot = self.snapshot.load();
            let explained = self.consider(&snapshot, selection, |choice, request| {
                Ok(self.rehearse(choice, request))
            });
            let explanation = match explained {
                Ok(explanation) => explanation,
                Err(error) => Some(nobody(error)),
            };
            match explanation {
                Some(mut explanation) => {
                    explanation.candidates.extend(snapshot.weightless());
                    return explanation;
                }
                // As for a choice in earnest: a newer snapshot is there or will be in a moment.
                None => std::hint::spin_loop(),
            }
        }
    }

    /// `None`: the choice has to be made again.
    fn rehearse(&self, choice: &Choice, request: Request<'_>) -> Option<Explanation> {
        let rehearsal = Rehearsal::new(choice.seats.len());
        let choose =
            |choice: &Choice, request: &Request<'_>| rehearsal.pick(&*choice.chooser, request);
        let position = self.position(choice, request, &rehearsal, choose, |_| true);
        let chosen = choice.settle(&request, position).transpose()?;
        choice.chooser.survey(&request, position, &rehearsal);
        let notes = rehearsal.into_notes().into_iter();
        let candidates = notes.map(|(at, note)| {
            let seat = &choice.seats[at];
            let reason = match position == Some(at) {
                true => Reason::Taken,
                false => reason(&request, at, seat, note),
            };
            Candidate {
                load: note.load,
                score: note.score,
                ..seat.candidate(reason)
            }
        });
        Some(Explanation {
            candidates: candidates.collect(),
            outcome: chosen.map(|position| choice.seats[position].host.id().clone()),
        })
    }
}

/// Why a host is not the choice.
fn reason(request: &Request<'_>, position: usize, seat: &Seat, note: Note) -> Reason {
    // What the algorithm says of a host that may not be taken means less than that.
    let obstacle = request.obstacle(position, seat);
    obstacle.or(note.reason).unwrap_or(Reason::NotDrawn)
}

fn nobody(error: BalancerError) -> Explanation {
    Explanation {
        outcome: Err(error),
        candidates: Vec::new(),
    }
}

impl Snapshot {
    /// The members that no choice looks at.
    fn weightless(&self) -> impl Iterator<Item = Candidate> {
        let seats = self.joined.iter();
        seats
            .filter(|seat| seat.host.weight() == 0)
            .map(|seat| seat.candidate(Reason::NoWeight))
    }
}

impl Seat {
    fn candidate(&self, reason: Reason) -> Candidate {
        Candidate {
            host: self.host.clone(),
            in_flight: self.live().in_flight(),
            load: None,
            score: None,
            reason,
        }
    }
}
