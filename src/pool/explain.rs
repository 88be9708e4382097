//! Which host a request would get, and why that one and no other.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::MutexGuard;

use serde::{Deserialize, Serialize};

use super::host_status::HostState;
use super::outlier_detector::OutlierDetector;
use super::select::Acquire;
use super::tiers::Tier;
use super::{HostStatus, Member, Pool, SelectionReason};
use crate::balancer::{self, Balancer, BalancerError, CandidateReason, HostId, Selection};

/// Which host of a pool a request would get, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolExplanation {
    /// What would become of the request.
    pub outcome: SelectionOutcome,
    /// Every host, in the order in which the choice would come to them; those that it would not look at come last.
    pub candidates: Vec<HostExplanation>,
}

/// What would become of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SelectionOutcome {
    /// It would go to a host.
    Host {
        /// The host.
        host: String,
        /// [`SelectionReason::code`].
        why: String,
    },
    /// It would not, at first: `no_host` is usable, `busy` are all that are, so that it waits in line, or every usable one
    /// has failed it (`tried`). Outside of a pool: `no_route`, or the route is `forbidden` to the client.
    None {
        /// In one word, why not.
        none: String,
    },
}

/// A host in the eyes of one choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostExplanation {
    /// Its place among the candidates, from 1.
    pub order: usize,
    /// Its identity.
    pub host: String,
    /// `primary`, `backup`, `draining`, or `out` of service.
    pub tier: String,
    /// What state it is in.
    pub state: HostState,
    /// Requests that run on it.
    pub in_flight: u64,
    /// Its weight in the choice.
    pub weight: u32,
    /// See [`balancer::Candidate::load`].
    pub load: Option<f64>,
    /// See [`balancer::Candidate::score`].
    pub score: Option<f64>,
    /// What becomes of it.
    pub verdict: CandidateStatus,
    /// Why, in one word: [`SelectionReason::code`] for the one that is taken. For others [`CandidateReason::code`], the state of one that is out
    /// of service, `draining` or `backup` while others are left, and `not_asked` where no balancer was.
    pub why: String,
    /// Why, in a line for a person.
    pub text: String,
}

/// What becomes of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateStatus {
    /// The request goes to it.
    #[serde(rename = "taken")]
    Selected,
    /// It does not.
    Skipped,
}

/// Takes nothing, and listens to the balancers that are asked.
#[derive(Default)]
struct DryRunAcquire {
    candidates: RefCell<Vec<balancer::Candidate>>,
}

impl Acquire for DryRunAcquire {
    type Acquired = HostId;

    fn from_balancer(
        &self,
        balancer: &dyn Balancer,
        request: &Selection<'_>,
    ) -> Result<HostId, BalancerError> {
        let explained = balancer.explain(request);
        self.candidates.borrow_mut().extend(explained.candidates);
        explained.outcome
    }

    fn from_member(&self, _: &dyn Balancer, member: &Member) -> Result<HostId, BalancerError> {
        match member.host().is_full() {
            true => Err(BalancerError::Busy),
            false => Ok(member.host().id().clone()),
        }
    }

    fn begin_probe(&self, _: &Pool, _: &Member, _: MutexGuard<'_, OutlierDetector>) {}
}

impl Pool {
    /// Which host [`try_lease`](Pool::try_lease) would lease now, and why. It is that choice, with nothing counted
    /// and no turn moved. One that finds others in line would first wait behind them.
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

/// The hosts of a pool as a choice leaves them.
struct ExplainView<'a> {
    pool: &'a Pool,
    tried: &'a [HostId],
    preferred: Option<&'a HostId>,
    taken: Option<(&'a HostId, SelectionReason)>,
}

impl ExplainView<'_> {
    /// All hosts: first one that was taken past the balancers, then those that balancers have told of, then the others by
    /// their tier.
    fn candidates(&self, candidates: &[balancer::Candidate]) -> Vec<HostExplanation> {
        let told: HashMap<&HostId, usize> = candidates
            .iter()
            .enumerate()
            .map(|(place, found)| (found.host.id(), place))
            .collect();
        let mut members = Vec::from_iter(&self.pool.members);
        members.sort_by_key(|member| {
            let id = member.host().id();
            match told.get(id) {
                None if self.selected_by(id).is_some() => (0, 0, Tier::Primary),
                Some(place) => (1, *place, Tier::Primary),
                None => (2, 0, member.tier()),
            }
        });
        let candidates = members.into_iter().zip(1..).map(|(member, order)| {
            let place = told.get(member.host().id());
            self.candidate(order, member, place.map(|place| &candidates[*place]))
        });
        candidates.collect()
    }

    /// `found`: what the balancer has told of it that was asked.
    fn candidate(
        &self,
        order: usize,
        member: &Member,
        found: Option<&balancer::Candidate>,
    ) -> HostExplanation {
        let host = found.map_or(member.host(), |found| &found.host);
        let status = self.pool.host_status(member);
        let by = self.selected_by(host.id());
        let (why, mut text) = match (by, found.map(|found| found.reason)) {
            (Some(by), _) => (by.code(), by.to_string()),
            // The balancer gives a host again that has failed the request where no other is left.
            (None, Some(CandidateReason::Taken)) => (
                CandidateReason::Tried.code(),
                CandidateReason::Tried.to_string(),
            ),
            (None, Some(reason)) => (reason.code(), reason.to_string()),
            (None, None) => self.why_not_considered(member, &status),
        };
        if by.is_none() && self.preferred == Some(host.id()) {
            text = format!("the client's cookie names it, but: {text}");
        }
        HostExplanation {
            order,
            host: host.id().to_string(),
            tier: member.tier().name().to_owned(),
            state: status.state,
            in_flight: found.map_or(host.in_flight(), |found| found.in_flight),
            weight: host.weight(),
            load: found.and_then(|found| found.load),
            score: found.and_then(|found| found.score),
            verdict: match by {
                Some(_) => CandidateStatus::Selected,
                None => CandidateStatus::Skipped,
            },
            why: why.to_owned(),
            text,
        }
    }

    fn selected_by(&self, id: &HostId) -> Option<SelectionReason> {
        self.taken
            .and_then(|(taken, why)| (taken == id).then_some(why))
    }

    /// Why no balancer was asked about a host that is not taken.
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
                "a backup, and others are left".to_owned(),
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
