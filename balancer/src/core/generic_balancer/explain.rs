//! Explains a pick: runs it dry on the current snapshot, and records it host by host.

use super::{EligibleHosts, GenericBalancer, Snapshot};
use crate::core::dry_run::{DryRun, HostTrace};
use crate::core::error::BalancerError;
use crate::core::explanation::{Candidate, CandidateReason, Explanation};
use crate::core::pick_request::PickRequest;
use crate::core::selection::Selection;
use crate::core::slot::Slot;
use crate::core::trace::PickTrace;

impl GenericBalancer {
    /// What a lease would pick, and why.
    pub(super) fn explanation(&self, selection: &Selection<'_>) -> Explanation {
        loop {
            let snapshot = self.snapshot.load();
            let explained = self.consider(&snapshot, selection, |eligible, request| {
                Ok(self.dry_run(eligible, request))
            });
            let explanation = match explained {
                Ok(explanation) => explanation,
                Err(error) => Some(no_candidates(error)),
            };
            match explanation {
                Some(mut explanation) => {
                    explanation.candidates.extend(snapshot.weightless());
                    return explanation;
                }
                // As in `select`: a newer snapshot is or will soon be available.
                None => std::hint::spin_loop(),
            }
        }
    }

    /// `None` if the pick has to be repeated.
    fn dry_run(&self, eligible: &EligibleHosts, request: PickRequest<'_>) -> Option<Explanation> {
        let dry_run = DryRun::new(eligible.slots.len());
        let pick = |eligible: &EligibleHosts, request: &PickRequest<'_>| {
            dry_run.pick(&*eligible.picker, request)
        };
        let position = self.position(eligible, request, &dry_run, pick, |_| true);
        let chosen = eligible.finish(&request, position).transpose()?;
        eligible.picker.dyn_rank(&request, position, &dry_run);
        let host_traces = dry_run.into_host_traces().into_iter();
        let candidates = host_traces.map(|(at, host_trace)| {
            let slot = &eligible.slots[at];
            let reason = match position == Some(at) {
                true => CandidateReason::Taken,
                false => reason(&request, at, slot, host_trace),
            };
            Candidate {
                load: host_trace.load,
                score: host_trace.score,
                ..slot.candidate(reason)
            }
        });
        Some(Explanation {
            candidates: candidates.collect(),
            outcome: chosen.map(|position| eligible.slots[position].host.id().clone()),
        })
    }
}

/// Why a host is not picked.
fn reason(
    request: &PickRequest<'_>,
    position: usize,
    slot: &Slot,
    host_trace: HostTrace,
) -> CandidateReason {
    // That the request does not accept the host takes precedence over the algorithm's reason.
    let rejection = request.rejection(position, slot);
    rejection
        .or(host_trace.reason)
        .unwrap_or(CandidateReason::NotDrawn)
}

fn no_candidates(error: BalancerError) -> Explanation {
    Explanation {
        outcome: Err(error),
        candidates: Vec::new(),
    }
}

impl Snapshot {
    /// The members of weight 0, which no pick considers.
    fn weightless(&self) -> impl Iterator<Item = Candidate> {
        let slots = self.joined.iter();
        slots
            .filter(|slot| slot.host.weight() == 0)
            .map(|slot| slot.candidate(CandidateReason::NoWeight))
    }
}

impl Slot {
    fn candidate(&self, reason: CandidateReason) -> Candidate {
        Candidate {
            host: self.host.clone(),
            in_flight: self.stats().in_flight(),
            load: None,
            score: None,
            reason,
        }
    }
}
