//! A pool and its hosts as they are told to people: each with its state, the reason for it, and since when.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::host_status::{CheckResult, HostState};
use super::outlier_detector::EjectionStage;
use super::tiers::Tier;
use super::{Member, Pool, RecentCounts};
use crate::balancer::StatsSnapshot;
use crate::config;
use crate::timestamp::Timestamp;

/// A pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// The name of the algorithm that chooses its hosts.
    pub algorithm: String,
    /// What the algorithm hashes; `None` if it hashes nothing.
    pub key: Option<String>,
    /// Its hosts in the order of the configuration, added ones behind them, then those of the file that were removed.
    pub hosts: Vec<HostStatus>,
    /// Hosts that new requests may go to, draining ones not counted.
    pub usable: usize,
    /// Requests that wait because every host is full.
    pub waiting: usize,
    /// How many may.
    pub queue_limit: usize,
    /// Requests that run on its hosts, those that came through other pools included.
    pub in_flight: u64,
    /// Clients' requests that have ended since the process began, each counted once.
    pub requests: u64,
    /// Those that ended in a 5xx, or with no answer that was whole, through no fault of the client.
    pub errors: u64,
    /// The same in the last minute.
    pub last_minute: RecentCounts,
    /// Its budget for retries; `None` if there are none.
    pub retries: Option<RetryStatus>,
    /// The cookie that keeps a client with its host, if any.
    pub sticky: Option<String>,
    /// What happens while no host is usable: `error` or `try_all`.
    pub when_all_down: String,
}

/// A pool's budget for retries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetryStatus {
    /// Retries that are paid for.
    pub balance: f64,
    /// Those beyond the balance that run now.
    pub running: u64,
}

/// A host in a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// What it is known by: the `host:port` of the configuration.
    pub id: String,
    /// What people call it; `None`: by its `id`.
    pub name: Option<String>,
    /// Where it is reached.
    pub address: String,
    /// Its weight now.
    pub weight: u32,
    /// Its weight in the file; `None` if an operator has added it.
    pub configured_weight: Option<u32>,
    /// Whether it is used only while no other host is usable.
    pub backup: bool,
    /// What state it is in.
    pub state: HostState,
    /// Whether new requests may go there now; they may go to a draining host, too, where no other is left.
    pub serving: bool,
    /// Why it is in that state, in one line for a person.
    pub reason: String,
    /// When the state began; a slow start belongs to being up.
    pub since: Timestamp,
    /// Requests that run on it, those that came through other pools included.
    pub in_flight: u64,
    /// How many may; `None`: any number.
    pub max_in_flight: Option<u64>,
    /// The recent time to answer in milliseconds; `None` before the first answer.
    pub latency_ms: Option<f64>,
    /// The share of recent requests that succeeded, 0 to 1.
    pub success: f64,
    /// How long it is still left alone; `None` if it is not.
    pub ejected_for_seconds: Option<f64>,
    /// The time until its next check; `None` if it is not known.
    pub next_check_seconds: Option<f64>,
    /// The check that finished last.
    pub last_check: Option<CheckResult>,
    /// Attempts at it in this pool since the process began.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// The same in the last minute.
    pub last_minute: RecentCounts,
    /// What an operator has changed at run time, in words; empty if nothing.
    pub operator: Vec<String>,
}

impl Pool {
    /// The pool as it is told to people.
    pub fn status(&self) -> PoolStatus {
        let best = self.best_tier();
        let members = self.members.iter();
        let members = members.map(|member| self.host_status_in(member, best));
        let hosts = Vec::from_iter(members.chain(self.removed()));
        PoolStatus {
            name: self.name.clone(),
            algorithm: self.algorithm.to_owned(),
            key: self.key.as_ref().map(config::KeySource::to_string),
            usable: self.usable(),
            waiting: self.queue.waiting(),
            queue_limit: self.queue.size(),
            in_flight: hosts.iter().map(|host| host.in_flight).sum(),
            hosts,
            requests: self.request_counters.requests(),
            errors: self.request_counters.errors(),
            last_minute: self.request_counters.last_minute(),
            retries: self.budget.as_ref().map(|budget| RetryStatus {
                balance: budget.balance(),
                running: budget.free_retries_running(),
            }),
            sticky: self
                .sticky
                .as_ref()
                .map(|sticky| sticky.config().cookie.clone()),
            when_all_down: if self.try_all { "try_all" } else { "error" }.to_owned(),
        }
    }

    /// A host as it is told to people.
    pub fn host_status(&self, member: &Member) -> HostStatus {
        self.host_status_in(member, self.best_tier())
    }

    /// The same where the best tier of the pool is known, so that a pool of thousands is not searched for each host.
    fn host_status_in(&self, member: &Member, best: Tier) -> HostStatus {
        let now = Instant::now();
        let host = member.host();
        let StatsSnapshot { latency, success } = host.stats_snapshot();
        let stage = member.outlier_detector().stage();
        let status_details = member.status_details().clone();
        let share = self.share(member);
        let state = match (status_details.state, share) {
            (HostState::Up, Some(_)) => HostState::Starting,
            (state, _) => state,
        };
        let ejected_for = match stage {
            EjectionStage::Ejected { until } => Some(until.saturating_duration_since(now)),
            _ => None,
        };
        let next_check = member.next_check();
        let serving = self.serves_in(member, best);
        HostStatus {
            id: host.id().as_str().to_owned(),
            name: member.label().map(str::to_owned),
            address: host.address().to_string(),
            weight: host.weight(),
            configured_weight: member.file_weight(),
            backup: member.is_backup(),
            state,
            serving,
            reason: self.status_text(member, &status_details, ejected_for, share, serving),
            since: status_details.since,
            in_flight: host.in_flight(),
            max_in_flight: host.max_in_flight().map(u64::from),
            latency_ms: latency.map(millis),
            success,
            ejected_for_seconds: ejected_for.map(|left| left.as_secs_f64()),
            next_check_seconds: next_check
                .map(|due| due.saturating_duration_since(now).as_secs_f64()),
            last_check: status_details.last_check,
            requests: member.request_counters().requests(),
            errors: member.request_counters().errors(),
            last_minute: member.request_counters().last_minute(),
            operator: by_operator(member),
        }
    }

    /// Hosts of the file that an operator has removed.
    fn removed(&self) -> impl Iterator<Item = HostStatus> {
        self.removed.iter().map(|(host, at)| HostStatus {
            id: host.id.as_str().to_owned(),
            name: host.label.clone(),
            address: host.address.to_string(),
            weight: 0,
            configured_weight: host.file_weight,
            backup: host.backup,
            state: HostState::Removed,
            serving: false,
            reason: "removed by an operator".to_owned(),
            since: *at,
            in_flight: 0,
            max_in_flight: host.max_in_flight,
            latency_ms: None,
            success: 1.0,
            ejected_for_seconds: None,
            next_check_seconds: None,
            last_check: None,
            requests: 0,
            errors: 0,
            last_minute: RecentCounts::default(),
            operator: vec!["removed".to_owned()],
        })
    }

    /// Whether new requests may go there now.
    pub fn serves(&self, member: &Member) -> bool {
        self.serves_in(member, self.best_tier())
    }

    /// The tier that gets new requests.
    fn best_tier(&self) -> Tier {
        let tiers = self.members.iter().map(Member::tier);
        tiers.min().unwrap_or(Tier::Out)
    }

    fn serves_in(&self, member: &Member, best: Tier) -> bool {
        match best {
            Tier::Out => self.try_all && member.host().weight() > 0,
            best => member.tier() == best,
        }
    }
}

/// What an operator has changed about a host, in words.
fn by_operator(member: &Member) -> Vec<String> {
    let weight = member.host().weight();
    let weighed = match member.file_weight() {
        None => Some("added".to_owned()),
        Some(said) if said != weight => Some(format!("weight {weight} (file: {said})")),
        Some(_) => None,
    };
    let drained = member.is_drained().then(|| "drained".to_owned());
    weighed.into_iter().chain(drained).collect()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
