//! Explains which host a request would get, and why not another one.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::MutexGuard;

use serde::{Deserialize, Serialize};

use super::host_origin::HostOrigin;
use super::host_status::HostState;
use super::outlier_detector::OutlierDetector;
use super::select::Acquire;
use super::tiers::Tier;
use super::{HostStatus, Member, Pool, SelectionReason};
use ballast_balancer::{
    self as balancer, Balancer, BalancerError, CandidateReason, HostId, Selection,
};

/// Which host of a pool a request would get, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolExplanation {
    /// The outcome of the selection.
    pub outcome: SelectionOutcome,
    /// All hosts, in the order in which the selection considers them; hosts that it does not consider come last.
    pub candidates: Vec<HostExplanation>,
}

/// The outcome of a selection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SelectionOutcome {
    /// The request would go to a host.
    Host {
        /// The host's identity.
        host: String,
        /// [`SelectionReason::code`].
        why: String,
    },
    /// The request would not go to a host at first: `no_host` is usable, all usable ones are `busy` and the request
    /// would wait, or it has `tried` all of them. Outside of a pool: `no_route`, or the route is `forbidden` to the
    /// client.
    None {
        /// The reason, in one word.
        none: String,
    },
}

/// A host as a candidate of one selection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostExplanation {
    /// Its position among the candidates, from 1.
    pub order: usize,
    /// Its identity.
    pub host: String,
    /// Where it comes from, see [`HostStatus::source`]. Earlier versions do not report it.
    #[serde(default)]
    pub source: String,
    /// What its source says about it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `primary`, `backup`, `draining`, or `out` of service.
    pub tier: String,
    /// Its state.
    pub state: HostState,
    /// Requests in flight on it.
    pub in_flight: u64,
    /// Its weight in the selection.
    pub weight: u32,
    /// See [`balancer::Candidate::load`].
    pub load: Option<f64>,
    /// See [`balancer::Candidate::score`].
    pub score: Option<f64>,
    /// Whether the request goes to it.
    pub verdict: CandidateStatus,
    /// The reason, in one word. For the selected host: [`SelectionReason::code`]. For others:
    /// [`CandidateReason::code`], the state of a host that is out of service, `draining` or `backup` while better hosts
    /// are left, and `not_asked` if no balancer considered it.
    pub why: String,
    /// The reason, in one line for a person.
    pub text: String,
}

impl HostExplanation {
    /// Whether it is from neither the file nor an operator.
    pub fn is_found(&self) -> bool {
        HostOrigin::is_found(&self.source)
    }
}

/// Whether a candidate is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateStatus {
    /// The request goes to it.
    #[serde(rename = "taken")]
    Selected,
    /// The request goes to another host, or to none.
    Skipped,
}

/// Counts nothing, and collects the candidates that the balancers considered.
#[derive(Default)]
struct DryRunAcquire {
    candidates: RefCell<Vec<balancer::Candidate>>,
}

impl Acquire for DryRunAcquire {
    type Acquired = HostId;

    fn acquire_picked(
        &self,
        balancer: &Balancer,
        request: &Selection<'_>,
    ) -> Result<HostId, BalancerError> {
        let explained = balancer.explain(request);
        self.candidates.borrow_mut().extend(explained.candidates);
        explained.outcome
    }

    fn acquire_member(&self, _: &Balancer, member: &Member) -> Result<HostId, BalancerError> {
        match member.host().is_full() {
            true => Err(BalancerError::Busy),
            false => Ok(member.host().id().clone()),
        }
    }

    fn begin_probe(&self, _: &Pool, _: &Member, _: MutexGuard<'_, OutlierDetector>) {}
}

impl Pool {
    /// Which host [`try_lease`](Pool::try_lease) would lease now, and why. It runs the same selection without counting
    /// anything or moving a cursor. It does not consider the queue, which the request might have to join first.
    pub fn explain(
        &self,
        request: &Selection<'_>,
        preferred: Option<&HostId>,
        repeatable: bool,
    ) -> PoolExplanation {
        let dry_run = DryRunAcquire::default();
        let chosen = self.select(request, preferred, repeatable, &dry_run);
        let tried = request.tried_hosts();
        let taken = match &chosen {
            Ok((id, why)) if !tried.contains(id) => Some((id, *why)),
            _ => None,
        };
        let view = ExplainView {
            pool: self,
            tried,
            preferred,
            taken,
        };
        PoolExplanation {
            outcome: match (taken, &chosen) {
                (Some((id, why)), _) => SelectionOutcome::Host {
                    host: id.to_string(),
                    why: why.code().to_owned(),
                },
                (None, Ok(_)) => SelectionOutcome::none("tried"),
                (None, Err(BalancerError::Busy)) => SelectionOutcome::none("busy"),
                (None, Err(_)) => SelectionOutcome::none("no_host"),
            },
            candidates: view.candidates(&dry_run.candidates.borrow()),
        }
    }
}

impl SelectionOutcome {
    /// No host, for this reason.
    pub fn none(why: &str) -> Self {
        SelectionOutcome::None {
            none: why.to_owned(),
        }
    }
}

/// The hosts of a pool after a selection.
struct ExplainView<'a> {
    pool: &'a Pool,
    tried: &'a [HostId],
    preferred: Option<&'a HostId>,
    taken: Option<(&'a HostId, SelectionReason)>,
}

impl ExplainView<'_> {
    /// All hosts: first a host that was selected without a balancer, then the candidates of the balancers, then the
    /// others by their tier.
    fn candidates(&self, candidates: &[balancer::Candidate]) -> Vec<HostExplanation> {
        let positions: HashMap<&HostId, usize> = candidates
            .iter()
            .enumerate()
            .map(|(position, found)| (found.host.id(), position))
            .collect();
        let mut members = Vec::from_iter(&self.pool.members);
        members.sort_by_key(|member| {
            let id = member.host().id();
            match positions.get(id) {
                None if self.selection_reason(id).is_some() => (0, 0, Tier::Primary),
                Some(position) => (1, *position, Tier::Primary),
                None => (2, 0, member.tier()),
            }
        });
        let candidates = members.into_iter().zip(1..).map(|(member, order)| {
            let position = positions.get(member.host().id());
            self.candidate(
                order,
                member,
                position.map(|position| &candidates[*position]),
            )
        });
        candidates.collect()
    }

    /// `found` is the candidate as the balancer explained it, if a balancer was asked.
    fn candidate(
        &self,
        order: usize,
        member: &Member,
        found: Option<&balancer::Candidate>,
    ) -> HostExplanation {
        let host = found.map_or(member.host(), |found| &found.host);
        let status = self.pool.host_status(member);
        let selected = self.selection_reason(host.id());
        let (why, mut text) = match (selected, found.map(|found| found.reason)) {
            (Some(selected), _) => (selected.code(), selected.to_string()),
            // A balancer gives a tried host again if no other is left.
            (None, Some(CandidateReason::Taken)) => (
                CandidateReason::Tried.code(),
                CandidateReason::Tried.to_string(),
            ),
            (None, Some(reason)) => (reason.code(), reason.to_string()),
            (None, None) => self.why_not_considered(member, &status),
        };
        if selected.is_none() && self.preferred == Some(host.id()) {
            text = format!("the client's cookie names it, but: {text}");
        }
        HostExplanation {
            order,
            host: host.id().to_string(),
            source: status.source,
            labels: status.labels,
            tier: member.tier().name().to_owned(),
            state: status.state,
            in_flight: found.map_or(host.in_flight(), |found| found.in_flight),
            weight: host.weight(),
            load: found.and_then(|found| found.load),
            score: found.and_then(|found| found.score),
            verdict: match selected {
                Some(_) => CandidateStatus::Selected,
                None => CandidateStatus::Skipped,
            },
            why: why.to_owned(),
            text,
        }
    }

    fn selection_reason(&self, id: &HostId) -> Option<SelectionReason> {
        self.taken
            .and_then(|(taken, why)| (taken == id).then_some(why))
    }

    /// Why no balancer was asked about a host that was not selected.
    fn why_not_considered(&self, member: &Member, status: &HostStatus) -> (&'static str, String) {
        match member.tier() {
            Tier::Out => (status.state.code(), status.reason.clone()),
            _ if self.tried.contains(member.host().id()) => (
                CandidateReason::Tried.code(),
                CandidateReason::Tried.to_string(),
            ),
            Tier::Draining => (SelectionReason::Draining.code(), status.reason.clone()),
            Tier::Backup => (
                SelectionReason::Backup.code(),
                "a backup, and other hosts are usable".to_owned(),
            ),
            Tier::Primary => {
                let why = self.taken.map(|(_, why)| format!("the other: {why}"));
                ("not_asked", why.unwrap_or_else(|| "not asked".to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
