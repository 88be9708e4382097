//! The learned state of a pool, carried over when the pool is rebuilt, in this process or in the next.
//!
//! State is keyed by identity and address, and an edited configuration takes precedence: a host with a new address, or
//! a pool with another health check, starts fresh.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::host_status::StatusDetails;
use super::outlier_detector::{EjectionState, millis};
use super::sticky::RandomKey;
use super::tiers::Tier;
use super::{Member, Pool, StickyTokens};
use ballast_balancer::{Balancer, Cursor, HostAddress, HostId, StatsSnapshot};

/// The result of a host's health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthVerdict {
    /// Whether requests may go to the host.
    pub healthy: bool,
    /// Consecutive checks that contradict `healthy`.
    pub against: usize,
}

/// The learned state of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolState {
    /// The pool's name.
    pub name: String,
    /// A digest of the health check's configuration; verdicts hold only for the same check.
    checks: u64,
    /// The balancer's cursor: the next host and the number of turns it has had in this cycle.
    turn: Option<(String, usize)>,
    /// Its hosts.
    hosts: Vec<SavedHost>,
    /// The key that authenticates the pool's cookies, unless the configuration has one.
    #[serde(default)]
    sticky_key: Option<RandomKey>,
    /// The balance of the retry budget, in retries.
    #[serde(default)]
    balance: f64,
}

/// The learned state of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SavedHost {
    id: String,
    address: HostAddress,
    verdict: Option<HealthVerdict>,
    /// The time until the next check.
    #[serde(default)]
    next_check_ms: Option<u64>,
    latency_ns: Option<u64>,
    success: f64,
    // Fields that earlier versions did not write have a default.
    #[serde(default)]
    weight: Option<u32>,
    /// The weight in the file.
    #[serde(default)]
    file_weight: Option<u32>,
    /// Whether an operator drained the host.
    #[serde(default)]
    drained: bool,
    #[serde(default)]
    ejection: Option<EjectionState>,
    /// The elapsed slow start, if the host is in slow start.
    #[serde(default)]
    ramping_ms: Option<u64>,
    /// For people.
    #[serde(default, rename = "facts")]
    status_details: Option<StatusDetails>,
}

impl PoolState {
    /// Whether the pool had hosts.
    pub fn has_hosts(&self) -> bool {
        !self.hosts.is_empty()
    }
}

impl Pool {
    /// The current state of the pool.
    pub fn state(&self) -> PoolState {
        PoolState {
            name: self.name.clone(),
            checks: self.checks(),
            turn: self
                .first_tier()
                .cursor()
                .map(|cursor| (cursor.host.as_str().to_owned(), cursor.taken)),
            hosts: self
                .members
                .iter()
                .map(|member| self.host_state(member))
                .collect(),
            sticky_key: self.sticky.as_ref().and_then(StickyTokens::random_key),
            balance: self.budget.as_ref().map_or(0.0, |budget| budget.balance()),
        }
    }

    /// Restores the state of a pool of the same name, where it still holds. Call it before the first health check. The
    /// cursor is restored by [`resume`](Pool::resume), which also repeats what may have changed until then.
    pub fn restore(&self, state: &PoolState) {
        if let (Some(sticky), Some(key)) = (&self.sticky, &state.sticky_key) {
            sticky.adopt_key(key);
        }
        if let Some(budget) = &self.budget {
            budget.grant(state.balance);
        }
        let same_checks = self.checks() == state.checks;
        let now = Instant::now();
        for (known, member) in self.known(state) {
            if same_checks {
                member.set_verdict(known.verdict);
                let wait = known.next_check_ms.map(Duration::from_millis);
                member.set_next_check(wait.and_then(|wait| now.checked_add(wait)));
            }
            if let (Some(rules), Some(carried)) = (&self.ejection, known.ejection) {
                member.outlier_detector().resume(rules, carried, now);
            }
            if let Some(status_details) = &known.status_details {
                member.status_details().resume(status_details, same_checks);
            }
            self.restore_drain(known, member);
            let was_out = known.drained
                || known.weight == Some(0)
                || known.verdict.is_some_and(|verdict| !verdict.healthy);
            let ramping = known.ramping_ms.map(Duration::from_millis);
            let ramping = ramping.or(was_out.then_some(Duration::ZERO));
            self.membership()
                .replaces(member.host().id().clone(), ramping);
            member.host().restore_stats(StatsSnapshot {
                latency: known.latency_ns.map(Duration::from_nanos),
                success: known.success,
            });
        }
    }

    /// Continues the turns of the pool of `state`. Call it once the hosts are usable.
    pub fn resume(&self, state: &PoolState) {
        for (known, member) in self.known(state) {
            self.restore_drain(known, member);
            // Until now requests went to the other pool alone, so its ejections are the current ones.
            if let (Some(rules), Some(carried)) = (&self.ejection, known.ejection) {
                member
                    .outlier_detector()
                    .resume(rules, carried, Instant::now());
            }
            if let Some(status_details) = &known.status_details {
                member
                    .status_details()
                    .ejection
                    .clone_from(&status_details.ejection);
            }
        }
        self.reconcile();
        if let Some((host, taken)) = &state.turn {
            self.first_tier().seek(&Cursor {
                host: HostId::from(host.as_str()),
                taken: *taken,
            });
        }
    }

    /// The hosts of `state` that are in this pool at the same address.
    fn known<'a>(
        &'a self,
        state: &'a PoolState,
    ) -> impl Iterator<Item = (&'a SavedHost, &'a Member)> {
        state.hosts.iter().filter_map(|known| {
            let member = self.member(&HostId::from(known.id.as_str()))?;
            (*member.host().address() == known.address).then_some((known, member))
        })
    }

    /// Restores an operator's drain, unless the host was edited since.
    fn restore_drain(&self, known: &SavedHost, member: &Member) {
        let before = known.file_weight.or(known.weight);
        let edited = member.file_weight().is_some_and(|now| before != Some(now));
        member.set_drained(known.drained && !edited);
    }

    /// The primary tier, whose cursor is carried over.
    pub(super) fn first_tier(&self) -> &Balancer {
        &self.tiers[Tier::Primary as usize]
    }

    fn host_state(&self, member: &Member) -> SavedHost {
        let host = member.host();
        let StatsSnapshot { latency, success } = host.stats_snapshot();
        let mut tiers = self.tiers.iter();
        let ramping = tiers.find_map(|balancer| balancer.slow_start_elapsed(host.id()));
        let now = Instant::now();
        let next_check = member.next_check();
        SavedHost {
            id: host.id().as_str().to_owned(),
            address: host.address().clone(),
            verdict: member.verdict(),
            next_check_ms: next_check.map(|due| millis(due.saturating_duration_since(now))),
            latency_ns: latency
                .map(|latency| u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)),
            success,
            weight: Some(host.weight()),
            file_weight: member.file_weight(),
            drained: member.is_drained(),
            ejection: member.outlier_detector().export(now),
            ramping_ms: ramping.map(millis),
            status_details: Some(member.status_details().clone()),
        }
    }

    fn checks(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", self.health_check).hash(&mut hasher);
        hasher.finish()
    }
}
