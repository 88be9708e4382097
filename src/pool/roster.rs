//! Who belongs to which tier, from what is known of the hosts. Nobody else changes the membership of the balancers.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::ejection::{Reason, Stage, may_eject};
use super::tiers::{Tier, tiers};
use super::{Failure, Member, Outcome, Pool, outcome};
use crate::balancer::{Balancer, HostId};
use crate::journal::Kind;

/// What reconciliation remembers from one time to the next.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Whether hosts have been placed once.
    begun: bool,
    /// The hosts of the pool that this one replaces, if any, and for how long they have been starting slowly.
    predecessor: Option<HashMap<HostId, Option<Duration>>>,
}

impl Roster {
    /// Notes a host of the pool that this one replaces.
    pub(super) fn replaces(&mut self, host: HostId, ramping: Option<Duration>) {
        self.predecessor
            .get_or_insert_default()
            .insert(host, ramping);
    }

    /// For how long a host that begins to serve has been starting slowly; `None` if it gets its whole share at once.
    fn ramped(&self, host: &HostId) -> Option<Duration> {
        if self.begun {
            return Some(Duration::ZERO);
        }
        // At the very start everybody is new, and nobody has to be spared.
        match self.predecessor.as_ref()?.get(host) {
            Some(ramping) => *ramping,
            None => Some(Duration::ZERO),
        }
    }
}

impl Pool {
    /// Puts the hosts into service, as far as they are healthy. Before this none is used.
    pub fn begin(&self) {
        let mut roster = self.roster();
        self.place(&roster);
        roster.begun = true;
        drop(roster);
        self.queue.wake();
    }

    /// Brings the tiers in line with what is known of the hosts now. To be called after every change of a verdict;
    /// nothing happens before [`begin`](Pool::begin).
    ///
    /// It compares what should be with what is instead of passing changes on, so no change can be lost or overtaken.
    pub fn reconcile(&self) {
        let roster = self.roster();
        if roster.begun {
            self.place(&roster);
        }
        drop(roster);
        self.queue.wake();
    }

    fn place(&self, roster: &Roster) {
        let now = Instant::now();
        for member in &self.members {
            let mut record = member.record();
            record.tick(now);
            if member.is_draining() && matches!(record.stage(), Stage::Due { .. }) {
                // Whoever gets no requests cannot prove itself.
                record.pardon(now);
                member.begin_era();
            }
        }
        let conditions = Vec::from_iter(self.members.iter().map(Member::condition));
        let placed = tiers(&conditions);
        let moved = || {
            let members = self.members.iter().zip(&placed);
            members.map(|(member, tier)| (member, member.tier(), *tier))
        };
        // First who comes, then who leaves: a host that moves is never nowhere.
        for (member, before, tier) in moved().filter(|(_, before, tier)| before != tier) {
            let Some(balancer) = self.balancer(tier) else {
                continue;
            };
            // Doubles and unknown hosts cannot occur: membership follows the tier, and both are written here only.
            let _ = balancer.add_host(member.host_in(tier));
            let id = member.host().id();
            // Whoever rested may be cold, whatever the reason was.
            if matches!(
                (before, tier),
                (Tier::Out | Tier::Draining, Tier::Primary | Tier::Backup)
            ) && let Some(elapsed) = roster.ramped(id)
            {
                let _ = balancer.ramp(id, elapsed);
            }
        }
        for (member, before, tier) in moved().filter(|(_, before, tier)| before != tier) {
            member.set_tier(tier);
            if let Some(balancer) = self.balancer(before) {
                let _ = balancer.remove_host(member.host().id());
            }
        }
        for member in &self.members {
            let state = member.state();
            member.facts().enter(state);
            let due = matches!(member.record().stage(), Stage::Due { .. });
            self.set_due(member, due && member.is_healthy());
        }
    }

    /// When the passing of time alone will next change who belongs where.
    pub fn next_change(&self) -> Option<Instant> {
        let ends = self
            .members
            .iter()
            .filter_map(|member| match member.record().stage() {
                Stage::Ejected { until } => Some(until),
                _ => None,
            });
        ends.min()
    }

    /// Waits until [`next_change`](Pool::next_change) may tell something else. A change in between two calls is not
    /// missed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Gives a host back to requests that a check has seen recover: it need not prove itself once more.
    pub fn pardon(&self, member: &Member) {
        let mut record = member.record();
        if record.is_ejected() {
            record.pardon(Instant::now());
            member.begin_era();
        }
    }

    /// Drains a host by the wish of an operator, or undoes that. Returns whether that changes anything.
    pub fn drain(&self, member: &Member, drained: bool) -> bool {
        let changes = member.set_drained(drained) != drained;
        if changes {
            let (kind, text) = match drained {
                true => (Kind::Drained, "drains"),
                false => (Kind::Undrained, "is drained no more"),
            };
            self.note(kind, Some(member.host().id()), text);
            self.reconcile();
        }
        changes
    }

    /// Takes in how a request went that was no probe.
    pub(super) fn observed(&self, member: &Member, outcome: Outcome) {
        let Some(rules) = &self.ejection else {
            return;
        };
        let failure = match outcome {
            Outcome::Failure(failure) if failure.is_among(&rules.failures) => Some(failure),
            _ => None,
        };
        let now = Instant::now();
        let reason = member.record().observe(rules, now, failure.is_some());
        if let (Some(reason), Some(failure)) = (reason, failure) {
            self.eject(member, now, reason, failure);
        }
    }

    /// What an answer of this status says of its host.
    pub fn outcome_of(&self, status: u16) -> Outcome {
        outcome::of_status(status, self.ejection.as_ref())
    }

    /// Takes in how a probe went.
    pub(super) fn proven(&self, member: &Member, outcome: Outcome) {
        let now = Instant::now();
        let host = Some(member.host().id());
        let failure = match (&self.ejection, outcome) {
            (Some(rules), Outcome::Failure(failure)) if failure.is_among(&rules.failures) => {
                Some((rules, failure))
            }
            _ => None,
        };
        match failure {
            Some((rules, failure)) => {
                let time = member.record().eject(rules, now);
                member.counters().count_ejection();
                let text = format!("stays ejected for {time:?}: {failure}");
                self.note(Kind::Ejected, host, &text);
                member.facts().ejection = Some(format!("it failed to prove itself: {failure}"));
                self.changed.notify_one();
            }
            None => {
                member.record().pardon(now);
                self.note(Kind::Returned, host, "is ejected no more: it answered");
            }
        }
        member.begin_era();
        self.reconcile();
    }

    /// A probe ended without a word on the host.
    pub(super) fn probe_given_back(&self, member: &Member) {
        member.record().give_probe_back();
        self.reconcile();
    }

    fn eject(&self, member: &Member, now: Instant, reason: Reason, failure: Failure) {
        let Some(rules) = &self.ejection else {
            return;
        };
        let time = {
            // Ejections one after another, so that two at the same time cannot take the last host.
            let _roster = self.roster();
            let conditions = self.members.iter().map(Member::condition);
            let conditions = Vec::from_iter(conditions);
            let ejected = conditions.iter().filter(|host| host.ejected).count();
            let usable = conditions
                .iter()
                .zip(&self.members)
                .filter(|(host, _)| host.healthy && !host.ejected && !host.draining)
                .filter(|(_, other)| other.host().id() != member.host().id())
                .count();
            if !may_eject(rules.max_ejected, self.members.len(), ejected, usable) {
                member.record().reprieve(now);
                return;
            }
            let mut record = member.record();
            if record.is_ejected() {
                return;
            }
            member.begin_era();
            record.eject(rules, now)
        };
        member.counters().count_ejection();
        let why = match reason {
            Reason::Row(failures) => format!("{failures} failures in a row, the last: {failure}"),
            Reason::Rate(failures, requests) => {
                format!("{failures} of {requests} requests failed, the last: {failure}")
            }
        };
        let text = format!("is ejected for {time:?}: {why}");
        self.note(Kind::Ejected, Some(member.host().id()), &text);
        member.facts().ejection = Some(why);
        self.reconcile();
        self.changed.notify_one();
    }

    /// Counts the hosts that wait for a probe.
    pub(super) fn set_due(&self, member: &Member, due: bool) {
        match (member.set_due(due), due) {
            (false, true) => self.due.fetch_add(1, Ordering::SeqCst),
            (true, false) => self.due.fetch_sub(1, Ordering::SeqCst),
            _ => 0,
        };
    }

    fn balancer(&self, tier: Tier) -> Option<&dyn Balancer> {
        match tier {
            Tier::Out => None,
            tier => Some(&*self.tiers[tier as usize]),
        }
    }
}
