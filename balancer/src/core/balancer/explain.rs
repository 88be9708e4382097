//! Explains a pick: picks from the current snapshot with numbers that are read ahead, and records it host by host.

use super::membership::{Eligible, Snapshot};
use super::{Balancer, Member};
use crate::core::explanation::{Candidate, CandidateReason, Explanation};
use crate::core::hosts::Hosts;
use crate::core::selection::Selection;
use crate::core::trace::{HostTrace, Recording};

impl Balancer {
    /// What a lease would pick, and why.
    pub(super) fn explanation(&self, selection: &Selection<'_>) -> Explanation {
        loop {
            let snapshot = self.snapshot.load();
            let explained = self.consider(&snapshot, selection, |eligible, hosts| {
                Ok(self.explain_pick(eligible, hosts))
            });
            let explanation = explained.unwrap_or_else(|error| {
                Some(Explanation {
                    outcome: Err(error),
                    candidates: Vec::new(),
                })
            });
            if let Some(mut explanation) = explanation {
                explanation.candidates.extend(snapshot.weightless());
                return explanation;
            }
        }
    }

    /// `None` if the pick has to be repeated.
    fn explain_pick(&self, eligible: &Eligible, hosts: Hosts<'_>) -> Option<Explanation> {
        let recording = Recording::new(hosts.len());
        let pick = eligible.pick(hosts, &self.sequence.read_ahead(), recording.trace());
        let outcome = eligible.checked(&hosts, pick).transpose()?;
        let position = pick.map(|pick| pick.position);
        let picker = eligible.picker_for(&hosts);
        let ranked = picker.rank(&hosts, self.sequence.turn(), position);
        ranked.into_iter().for_each(|ranked| recording.rank(ranked));
        let candidates = recording.into_host_traces().into_iter();
        let candidates = candidates.map(|(at, host_trace)| {
            let reason = match position == Some(at) {
                true => CandidateReason::Taken,
                false => reason(&hosts, at, host_trace),
            };
            Candidate {
                load: host_trace.load,
                score: host_trace.score,
                ..candidate(hosts.member(at), reason)
            }
        });
        Some(Explanation {
            candidates: candidates.collect(),
            outcome: outcome.map(|pick| hosts.member(pick.position).host.id().clone()),
        })
    }
}

/// Why a host is not picked.
fn reason(hosts: &Hosts<'_>, position: usize, host_trace: HostTrace) -> CandidateReason {
    // That the request does not accept the host takes precedence over the algorithm's reason.
    let rejection = hosts.rejection(position);
    rejection
        .or(host_trace.reason)
        .unwrap_or(CandidateReason::NotDrawn)
}

fn candidate(member: &Member, reason: CandidateReason) -> Candidate {
    Candidate {
        host: member.host.clone(),
        in_flight: member.in_flight(),
        load: None,
        score: None,
        reason,
    }
}

impl Snapshot {
    /// The members of weight 0, which no pick considers.
    fn weightless(&self) -> impl Iterator<Item = Candidate> {
        let members = self.joined.iter().filter(|member| member.weight == 0);
        members.map(|member| candidate(member, CandidateReason::NoWeight))
    }
}
