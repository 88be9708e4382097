//! Assigns hosts to tiers by their state. Only this file changes the membership of the balancers.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::outlier_detector::{EjectionReason, EjectionStage, may_eject};
use super::tiers::{Tier, tiers};
use super::{Failure, Member, Outcome, Pool, outcome};
use crate::event_log::EventKind;
use ballast_balancer::{HostId, Joining};

/// So many hosts are reconciled in less time than it takes to wake a task.
const FEW: usize = 256;

/// The state of reconciliation.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// Whether hosts have been assigned before.
    begun: bool,
    /// The hosts of the replaced pool, if any, each with its elapsed slow start.
    predecessor: Option<HashMap<HostId, Option<Duration>>>,
}

impl Membership {
    /// Records a host of the replaced pool.
    pub(super) fn replaces(&mut self, host: HostId, ramping: Option<Duration>) {
        self.predecessor
            .get_or_insert_default()
            .insert(host, ramping);
    }

    /// The elapsed slow start of a host that begins to serve; `None` if it gets its full share at once.
    fn slow_start_of(&self, host: &HostId) -> Option<Duration> {
        if self.begun {
            return Some(Duration::ZERO);
        }
        // When the process starts, every host is new, and slow start would not protect any of them.
        match self.predecessor.as_ref()?.get(host) {
            Some(ramping) => *ramping,
            None => Some(Duration::ZERO),
        }
    }
}

impl Pool {
    /// Puts the healthy hosts into service. Until this is called, no host is used.
    pub fn begin(&self) {
        let mut membership = self.membership();
        self.assign_tiers(&membership);
        membership.begun = true;
        drop(membership);
        self.queue.wake();
    }

    /// Brings the tiers in line with the hosts' current state. Call it after every change of a verdict; it does nothing
    /// before [`begin`](Pool::begin).
    ///
    /// It compares the target with the current state instead of applying changes, so no change can be lost or
    /// reordered.
    pub fn reconcile(&self) {
        let membership = self.membership();
        if membership.begun {
            self.assign_tiers(&membership);
        }
        drop(membership);
        self.queue.wake();
    }

    /// Brings the tiers in line after a check or a request. With many hosts it leaves that to the pool's task, which waits for
    /// [`verdicts_changed`](Pool::verdicts_changed) and calls [`reconcile`](Pool::reconcile) once for all changes until then:
    /// no request waits for it.
    pub fn reconcile_soon(&self) {
        match self.members.len() {
            0..=FEW => self.reconcile(),
            _ => self.verdicts_changed.notify_one(),
        }
    }

    /// Waits until checks of one of many hosts have changed a verdict. A change between two waits is not missed.
    pub async fn verdicts_changed(&self) {
        self.verdicts_changed.notified().await;
    }

    fn assign_tiers(&self, membership: &Membership) {
        let now = Instant::now();
        for member in &self.members {
            let mut outlier_detector = member.outlier_detector();
            outlier_detector.tick(now);
            if member.is_draining()
                && matches!(outlier_detector.stage(), EjectionStage::ProbeDue { .. })
            {
                // A draining host gets no requests, so none could probe it.
                outlier_detector.uneject(now);
                member.begin_epoch();
            }
        }
        let inputs = Vec::from_iter(self.members.iter().map(Member::tier_inputs));
        let placed = tiers(&inputs);
        let moved = self.members.iter().zip(&placed);
        let moved = moved.filter(|(member, tier)| member.tier() != **tier);
        let moved = Vec::from_iter(moved.map(|(member, tier)| (member, member.tier(), *tier)));
        let joins = |tier| moved.iter().filter(move |(_, _, now)| *now == tier);
        let leaves = |tier| moved.iter().any(|(_, before, _)| *before == tier);
        // Those that only gain hosts first: a host that changes its tier is then in one all the time.
        let mut changed = Vec::from(Tier::SERVING);
        changed.retain(|tier| leaves(*tier) || joins(*tier).next().is_some());
        changed.sort_by_key(|tier| (leaves(*tier), joins(*tier).next().is_none()));
        for tier in changed {
            let here = self.members.iter().zip(&placed);
            let here = here.filter(|(_, now)| **now == tier).map(|(member, _)| {
                let joining = Joining::from(member.host_in(tier));
                // A host that was out of service may have cold caches, whatever the reason.
                let is_new = matches!(
                    (member.tier(), tier),
                    (Tier::Out | Tier::Draining, Tier::Primary | Tier::Backup)
                );
                let elapsed = is_new.then(|| membership.slow_start_of(member.host().id()));
                match elapsed.flatten() {
                    Some(elapsed) => joining.slow_start(elapsed),
                    None => joining,
                }
            });
            self.tiers[tier as usize]
                .set_hosts(here)
                .expect("the balancer of all hosts has shown that no two are the same");
            // A lease of this host by its name finds it in its tier from now on.
            joins(tier).for_each(|(member, _, now)| member.set_tier(*now));
        }
        moved
            .iter()
            .for_each(|(member, _, tier)| member.set_tier(*tier));
        for member in &self.members {
            let state = member.state();
            member.status_details().enter(state);
            let due = matches!(
                member.outlier_detector().stage(),
                EjectionStage::ProbeDue { .. }
            );
            self.set_probe_due(member, due && member.is_healthy());
        }
    }

    /// When the tiers next change by the passing of time alone.
    pub fn next_change(&self) -> Option<Instant> {
        let ends =
            self.members
                .iter()
                .filter_map(|member| match member.outlier_detector().stage() {
                    EjectionStage::Ejected { until } => Some(until),
                    _ => None,
                });
        ends.min()
    }

    /// Waits until [`next_change`](Pool::next_change) may have moved. A change between two calls is not missed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Ends the ejection of a host that a health check has seen recover: no probe is needed.
    pub fn uneject(&self, member: &Member) {
        let mut outlier_detector = member.outlier_detector();
        if outlier_detector.is_ejected() {
            outlier_detector.uneject(Instant::now());
            member.begin_epoch();
        }
    }

    /// Drains a host for an operator, or undoes that. Returns whether anything changed.
    pub fn drain(&self, member: &Member, drained: bool) -> bool {
        let changes = member.set_drained(drained) != drained;
        if changes {
            let (kind, text) = match drained {
                true => (EventKind::Drained, "drains"),
                false => (EventKind::Undrained, "is no longer drained"),
            };
            self.log_event(kind, Some(member.host().id()), text);
            self.reconcile();
        }
        changes
    }

    /// Records the outcome of a request that was not a probe.
    pub(super) fn record_outcome(&self, member: &Member, outcome: Outcome) {
        let Some(rules) = &self.ejection else {
            return;
        };
        let failure = match outcome {
            Outcome::Failure(failure) if failure.is_among(&rules.failures) => Some(failure),
            _ => None,
        };
        let now = Instant::now();
        let reason = member
            .outlier_detector()
            .observe(rules, now, failure.is_some());
        if let (Some(reason), Some(failure)) = (reason, failure) {
            self.eject(member, now, reason, failure);
        }
    }

    /// The outcome that a response status means for its host.
    pub fn outcome_of(&self, status: u16) -> Outcome {
        outcome::of_status(status, self.ejection.as_ref())
    }

    /// Records the outcome of a probe.
    pub(super) fn finish_probe(&self, member: &Member, outcome: Outcome) {
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
                let time = member.outlier_detector().eject(rules, now);
                member.counters().count_ejection();
                let text = format!("stays ejected for {time:?}: {failure}");
                self.log_event(EventKind::Ejected, host, &text);
                member.status_details().ejection = Some(format!("its probe failed: {failure}"));
                self.changed.notify_one();
            }
            None => {
                member.outlier_detector().uneject(now);
                self.log_event(
                    EventKind::Returned,
                    host,
                    "is no longer ejected: it responded",
                );
            }
        }
        member.begin_epoch();
        self.reconcile_soon();
    }

    /// Ends a probe that gave no outcome.
    pub(super) fn cancel_probe(&self, member: &Member) {
        member.outlier_detector().cancel_probe();
        self.reconcile_soon();
    }

    fn eject(&self, member: &Member, now: Instant, reason: EjectionReason, failure: Failure) {
        let Some(rules) = &self.ejection else {
            return;
        };
        let time = {
            // The lock makes ejections sequential, so that two at the same time cannot take the last host.
            let _membership = self.membership();
            let inputs = self.members.iter().map(Member::tier_inputs);
            let inputs = Vec::from_iter(inputs);
            let ejected = inputs.iter().filter(|host| host.ejected).count();
            let usable = inputs
                .iter()
                .zip(&self.members)
                .filter(|(host, _)| host.healthy && !host.ejected && !host.draining)
                .filter(|(_, other)| other.host().id() != member.host().id())
                .count();
            if !may_eject(rules.max_ejected, self.members.len(), ejected, usable) {
                member.outlier_detector().reset_counts(now);
                return;
            }
            let mut outlier_detector = member.outlier_detector();
            if outlier_detector.is_ejected() {
                return;
            }
            member.begin_epoch();
            outlier_detector.eject(rules, now)
        };
        member.counters().count_ejection();
        let why = match reason {
            EjectionReason::Consecutive(failures) => {
                format!("{failures} failures in a row, the last: {failure}")
            }
            EjectionReason::FailureRate(failures, requests) => {
                format!("{failures} of {requests} requests failed, the last: {failure}")
            }
        };
        let text = format!("is ejected for {time:?}: {why}");
        self.log_event(EventKind::Ejected, Some(member.host().id()), &text);
        member.status_details().ejection = Some(why);
        self.reconcile_soon();
        self.changed.notify_one();
    }

    /// Sets whether a host waits for a probe, and keeps the pool's count of such hosts.
    pub(super) fn set_probe_due(&self, member: &Member, due: bool) {
        match (member.set_probe_due(due), due) {
            (false, true) => self.probes_due.fetch_add(1, Ordering::SeqCst),
            (true, false) => self.probes_due.fetch_sub(1, Ordering::SeqCst),
            _ => 0,
        };
    }
}
