//! The status of a pool and its hosts for people: each host with its state, the reason for it, and since when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::host_origin::HostOrigin;
use super::host_status::{CheckResult, HostState};
use super::outlier_detector::EjectionStage;
use super::tiers::Tier;
use super::{Member, Pool, RequestCounts};
use crate::config;
use crate::timestamp::Timestamp;
use ballast_balancer::StatsSnapshot;

/// The status of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// The pool's name.
    pub name: String,
    /// The name of the balancing algorithm.
    pub algorithm: String,
    /// What the algorithm hashes; `None` if it uses no key.
    pub key: Option<String>,
    /// The hosts in the order of the configuration, then added hosts, then hosts of the file that were removed.
    pub hosts: Vec<HostStatus>,
    /// The number of hosts that new requests may go to, without draining ones.
    pub usable: usize,
    /// The number of requests that wait because every host is full.
    pub waiting: usize,
    /// The most requests that may wait.
    pub queue_limit: usize,
    /// Requests in flight on the pool's hosts, including those of other pools.
    pub in_flight: u64,
    /// Clients' requests that have ended since the process began, each counted once.
    pub requests: u64,
    /// Requests that ended in a 5xx or without a complete response, through no fault of the client.
    pub errors: u64,
    /// Requests and errors of the last minute.
    pub last_minute: RequestCounts,
    /// The retry budget; `None` if the pool does not retry.
    pub retries: Option<RetryStatus>,
    /// The name of the affinity cookie, if the pool is sticky.
    pub sticky: Option<String>,
    /// What happens while no host is usable: `error` or `try_all`.
    pub when_all_down: String,
    /// The maintenance that the pool is in; `None` if it serves.
    pub maintenance: Option<MaintenanceStatus>,
}

/// The maintenance of a pool, whose clients get 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceStatus {
    /// What clients read where there is no page.
    pub message: String,
    /// The Retry-After of the response, as in a file.
    pub retry_after: String,
    /// Networks of clients that are served all the same.
    pub allow: Vec<String>,
    /// Whether an operator has begun it, and not the file.
    pub by_operator: bool,
}

/// The state of a pool's retry budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetryStatus {
    /// Retries that the budget has saved up.
    pub balance: f64,
    /// Free retries in flight, beyond the balance.
    pub running: u64,
}

/// The status of a host in a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// The identity: the `host:port` or `unix:/path` of the configuration, or the address that a source has told.
    pub id: String,
    /// The display name; `None` if people know it by its `id`.
    pub name: Option<String>,
    /// The address that requests are sent to.
    pub address: String,
    /// Where it comes from: `configuration`, `operator`, or the kind and name of a source, as in `dns app.internal`. Earlier
    /// versions do not report it.
    #[serde(default)]
    pub source: String,
    /// The name by which its source knows it, for TLS and the Host field.
    #[serde(default)]
    pub server_name: Option<String>,
    /// What its source says about it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether its source does not name it any more, so that it stays only until enough others are usable.
    #[serde(default)]
    pub leaving: bool,
    /// The current weight.
    pub weight: u32,
    /// The weight in the file; `None` if an operator added the host.
    pub configured_weight: Option<u32>,
    /// Whether the host is used only while no primary host is usable.
    pub backup: bool,
    /// The host's state.
    pub state: HostState,
    /// Whether new requests may go to the host now; they may go to a draining host if no other is left.
    pub serving: bool,
    /// Why the host is in that state, in one line for a person.
    pub reason: String,
    /// When the state began; a slow start belongs to being up.
    pub since: Timestamp,
    /// Requests in flight on the host, including those of other pools.
    pub in_flight: u64,
    /// The most requests in flight; `None` if unlimited.
    pub max_in_flight: Option<u64>,
    /// The recent latency in milliseconds; `None` before the first response.
    pub latency_ms: Option<f64>,
    /// The share of recent requests that succeeded, 0 to 1.
    pub success: f64,
    /// The remaining time of the ejection; `None` if the host is not ejected.
    pub ejected_for_seconds: Option<f64>,
    /// The time until the next check; `None` if not known.
    pub next_check_seconds: Option<f64>,
    /// The most recent finished check.
    pub last_check: Option<CheckResult>,
    /// Attempts at the host in this pool since the process began.
    pub requests: u64,
    /// Failed attempts.
    pub errors: u64,
    /// Attempts and errors of the last minute.
    pub last_minute: RequestCounts,
    /// What an operator changed at run time, for people; empty if nothing.
    pub operator: Vec<String>,
}

impl HostStatus {
    /// Whether it is from neither the file nor an operator.
    pub fn is_found(&self) -> bool {
        HostOrigin::is_found(&self.source)
    }
}

impl Pool {
    /// The pool's status.
    pub fn status(&self) -> PoolStatus {
        let best = self.best_tier();
        let members = self.members.iter();
        let members = members.map(|member| self.host_status_in(member, best));
        let hosts = Vec::from_iter(members.chain(self.removed()));
        let counts = self.counters.counts();
        PoolStatus {
            name: self.name.clone(),
            algorithm: self.algorithm.to_owned(),
            key: self.key.as_ref().map(config::KeySource::to_string),
            usable: self.usable(),
            waiting: self.queue.waiting(),
            queue_limit: self.queue.size(),
            in_flight: hosts.iter().map(|host| host.in_flight).sum(),
            hosts,
            requests: counts.requests,
            errors: counts.errors,
            last_minute: self.last_minute.until(counts),
            retries: self.budget.as_ref().map(|budget| RetryStatus {
                balance: budget.balance(),
                running: budget.free_retries_running(),
            }),
            sticky: self
                .sticky
                .as_ref()
                .map(|sticky| sticky.config().cookie.clone()),
            when_all_down: if self.try_all { "try_all" } else { "error" }.to_owned(),
            maintenance: self.maintenance().map(|settings| MaintenanceStatus {
                message: settings.message.clone(),
                retry_after: settings.retry_after_text(),
                allow: Vec::from_iter(settings.allow.iter().map(|network| network.to_string())),
                by_operator: settings.by_operator,
            }),
        }
    }

    /// A host's status.
    pub fn host_status(&self, member: &Member) -> HostStatus {
        self.host_status_in(member, self.best_tier())
    }

    /// A host's status, given the pool's best tier: finding it for each host would be quadratic in a large pool.
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
        let counts = member.counters().counts();
        let HostOrigin {
            source,
            server_name,
            labels,
            is_leaving,
        } = member.origin().clone();
        HostStatus {
            id: host.id().as_str().to_owned(),
            name: member.label().map(str::to_owned),
            address: host.address().to_string(),
            source,
            server_name,
            labels,
            leaving: is_leaving,
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
            requests: counts.requests,
            errors: counts.errors,
            last_minute: member.last_minute.until(counts),
            operator: operator_changes(member),
        }
    }

    /// Hosts of the file that an operator removed.
    fn removed(&self) -> impl Iterator<Item = HostStatus> {
        self.removed.iter().map(|(host, removed_at)| {
            let origin = HostOrigin::of(host);
            HostStatus {
                id: host.id.as_str().to_owned(),
                name: host.label.clone(),
                address: host.address.to_string(),
                source: origin.source,
                server_name: origin.server_name,
                labels: origin.labels,
                leaving: origin.is_leaving,
                weight: 0,
                configured_weight: host.file_weight,
                backup: host.backup,
                state: HostState::Removed,
                serving: false,
                reason: "removed by an operator".to_owned(),
                since: *removed_at,
                in_flight: 0,
                max_in_flight: host.max_in_flight,
                latency_ms: None,
                success: 1.0,
                ejected_for_seconds: None,
                next_check_seconds: None,
                last_check: None,
                requests: 0,
                errors: 0,
                last_minute: RequestCounts::default(),
                operator: vec!["removed".to_owned()],
            }
        })
    }

    /// Whether new requests may go to the host now.
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

/// What an operator changed about a host, for people.
fn operator_changes(member: &Member) -> Vec<String> {
    let weight = member.host().weight();
    let weight_change = match member.file_weight() {
        None => Some("added".to_owned()),
        Some(in_file) if in_file != weight => Some(format!("weight {weight} (file: {in_file})")),
        Some(_) => None,
    };
    let drained = member.is_drained().then(|| "drained".to_owned());
    weight_change.into_iter().chain(drained).collect()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
