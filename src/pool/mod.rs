//! A pool: hosts, the balancers that choose among them, and policies.
//!
//! Each group of hosts (primary, backup, draining) has a balancer of its own: the `tiers`. A host's tier follows from
//! its state (checks, ejections, drains); `membership` alone brings the balancers in line with it. A new pool uses no
//! host until [`Pool::begin`].

mod carry_over;
mod copy_counters;
mod explain;
#[cfg(test)]
mod fuzz;
mod host_counters;
mod host_origin;
mod host_registry;
mod host_status;
mod last_minute;
mod lease;
mod maintenance;
mod member;
mod membership;
mod outcome;
mod outlier_detector;
mod pool_counters;
mod pool_state;
mod pool_status;
mod retry_budget;
mod select;
mod selection_reason;
mod status_text;
mod sticky;
mod tiers;
mod wait_queue;

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::config;
use crate::event_log::{EventKind, EventLog};
use crate::timestamp::Timestamp;
use ballast_balancer::{Balancer, HostId, Options};

pub use copy_counters::{CopyCounters, CopyOutcome};
pub use explain::{CandidateStatus, HostExplanation, PoolExplanation, SelectionOutcome};
pub use host_counters::{CheckOutcome, HostCounters};
pub use host_registry::HostRegistry;
pub use host_status::{CheckResult, HostState};
pub use last_minute::{LastMinute, RequestCounts};
pub use lease::PoolLease;
pub use member::Member;
pub(crate) use member::ca_type;
pub(crate) use outcome::exhausted_resource;
pub use outcome::{Failure, Outcome, lacks_resources};
pub(crate) use outlier_detector::{ejection_time, may_eject};
pub use pool_counters::{CountedRequest, PoolCounters, PoolTotals, STATUS_CLASSES};
pub use pool_state::{HealthVerdict, PoolState};
pub use pool_status::{HostStatus, MaintenanceStatus, PoolStatus, RetryStatus};
pub use retry_budget::{RetryBudget, RetryHandle};
pub use selection_reason::SelectionReason;
pub use sticky::{Affinity, StickyTokens};

use maintenance::MaintenanceSwitch;
use membership::Membership;
use tiers::Tier;
use wait_queue::WaitQueue;

/// Hosts, the balancers that choose among them, and policies.
#[derive(Debug)]
pub struct Pool {
    name: String,
    algorithm: &'static str,
    members: Vec<Member>,
    by_id: HashMap<HostId, usize>,
    /// Indexed by [`Tier`].
    tiers: [Balancer; Tier::SERVING.len()],
    /// All hosts, for `when_all_down: try_all` and to count probes.
    all: Balancer,
    try_all: bool,
    key: Option<config::KeySource>,
    host_header: config::HostHeader,
    protocol: config::Protocol,
    health_check: Option<config::HealthCheck>,
    check_stretch: Arc<AtomicU32>,
    budget: Option<Arc<RetryBudget>>,
    sticky: Option<StickyTokens>,
    ejection: Option<config::Ejection>,
    slow_start: Option<config::SlowStart>,
    queue: WaitQueue,
    maintenance: MaintenanceSwitch,
    membership: Mutex<Membership>,
    /// The number of hosts that wait for a probe.
    probes_due: AtomicUsize,
    changed: Notify,
    verdicts_changed: Notify,
    counters: Arc<PoolCounters>,
    /// Shared with the pool that this one replaces, as the counters are.
    last_minute: Arc<LastMinute>,
    /// Hosts of the file that an operator removed, and when.
    removed: Vec<(config::Host, Timestamp)>,
    event_log: Arc<EventLog>,
}

/// Why a pool could not be built.
#[derive(Debug)]
pub struct PoolError {
    pool: String,
    reason: String,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pools.{}: {}", self.pool, self.reason)
    }
}

impl Error for PoolError {}

impl Pool {
    /// A pool without a usable host. Hosts that `host_registry` already knows keep their live state.
    ///
    /// # Errors
    /// If the configuration was not validated: duplicate hosts, unknown options, an identity that is not a valid Host
    /// field.
    pub fn new(
        pool: &config::Pool,
        timeouts: &config::Timeouts,
        host_registry: &mut HostRegistry,
    ) -> Result<Self, PoolError> {
        let fail = |reason: String| PoolError {
            pool: pool.name.clone(),
            reason,
        };
        let config::Algorithm { typed, key, .. } = &pool.algorithm;
        let info = typed.info();
        let mut options = Options::new();
        if let Some(config::SlowStart { window, floor }) = pool.slow_start {
            options = options.slow_start(window, f64::from(floor) / 100.0);
        }
        let build = |hosts: Vec<_>| {
            let balancer = Balancer::new(typed.clone(), hosts, &options);
            balancer.map_err(|error| fail(error.to_string()))
        };
        let peer_template = member::PeerTemplate::new(pool, timeouts).map_err(fail)?;
        let members = pool
            .members
            .iter()
            .map(|host| {
                let live = host_registry
                    .host(host)
                    .map_err(|error| fail(error.to_string()))?;
                let counters = host_registry.host_counters(&pool.name, &host.id);
                Member::new(live, counters, host, &peer_template).map_err(fail)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let hosts = members.iter().map(|member| member.host().clone()).collect();
        let counters = host_registry.pool_counters(&pool.name);
        Ok(Pool {
            name: pool.name.clone(),
            algorithm: info.name,
            by_id: members
                .iter()
                .enumerate()
                .map(|(position, member)| (member.host().id().clone(), position))
                .collect(),
            tiers: [build(Vec::new())?, build(Vec::new())?, build(Vec::new())?],
            all: build(hosts)?,
            try_all: pool.when_all_down == config::WhenAllDown::TryAll,
            members,
            key: info.keyed.then(|| key.clone()),
            host_header: pool.host_header,
            protocol: pool.protocol,
            health_check: pool.health_check.clone(),
            check_stretch: host_registry.check_stretch(),
            budget: pool
                .retries
                .as_ref()
                .map(|policy| Arc::new(RetryBudget::new(policy, Arc::clone(&counters)))),
            sticky: pool.sticky.as_ref().map(|config| {
                StickyTokens::new(config, &pool.name, pool.members.iter().map(|host| &host.id))
            }),
            ejection: pool.ejection.clone(),
            slow_start: pool.slow_start,
            queue: WaitQueue::new(&pool.limits),
            maintenance: MaintenanceSwitch::new(pool.maintenance.as_ref()),
            membership: Mutex::default(),
            probes_due: AtomicUsize::new(0),
            changed: Notify::new(),
            verdicts_changed: Notify::new(),
            last_minute: Arc::new(LastMinute::new(counters.counts())),
            counters,
            removed: pool.removed.clone(),
            event_log: Arc::clone(host_registry.event_log()),
        })
    }

    /// The pool's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the balancing algorithm.
    pub fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// All hosts, in the order of the configuration.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The host with this identity.
    pub fn member(&self, id: &HostId) -> Option<&Member> {
        self.by_id.get(id).map(|&position| &self.members[position])
    }

    /// Where the hash key comes from; `None` if the algorithm uses no key.
    pub fn key(&self) -> Option<&config::KeySource> {
        self.key.as_ref()
    }

    /// The Host field that hosts receive.
    pub fn host_header(&self) -> config::HostHeader {
        self.host_header
    }

    /// What the hosts speak.
    pub fn protocol(&self) -> config::Protocol {
        self.protocol
    }

    /// The active health check; `None` if every host counts as healthy.
    pub fn health_check(&self) -> Option<&config::HealthCheck> {
        self.health_check.as_ref()
    }

    /// By how much checks are less frequent than the health check says: other balancers check the same hosts.
    pub fn check_stretch(&self) -> u32 {
        self.check_stretch.load(Ordering::Relaxed).max(1)
    }

    /// The retry policy and budget; `None` if requests are never retried.
    pub fn budget(&self) -> Option<&Arc<RetryBudget>> {
        self.budget.as_ref()
    }

    /// Session affinity; `None` if the pool is not sticky.
    pub fn sticky(&self) -> Option<&StickyTokens> {
        self.sticky.as_ref()
    }

    /// Derives the key of the cookies from a secret of several processes, unless the configuration has one.
    pub fn adopt_secret(&self, secret: &[u8]) {
        if let Some(sticky) = &self.sticky {
            sticky.adopt_secret(secret);
        }
    }

    /// The number of hosts that new requests may go to, without draining ones.
    pub fn usable(&self) -> usize {
        self.members.iter().filter(|host| host.is_usable()).count()
    }

    /// Counters of clients' requests that have ended.
    pub fn counters(&self) -> &PoolCounters {
        &self.counters
    }

    /// Moves the last minute of the pool and its hosts on. To be called every [`LastMinute::STEP`].
    pub fn step_last_minute(&self) {
        self.last_minute.step(self.counters.counts());
        for member in &self.members {
            member.last_minute.step(member.counters().counts());
        }
    }

    /// The log of events on the hosts.
    pub fn event_log(&self) -> &Arc<EventLog> {
        &self.event_log
    }

    /// Logs an event of a host, or of the pool as a whole. `text` follows `pool NAME: ` and, for a host, `host ID `.
    pub fn log_event(&self, kind: EventKind, host: Option<&HostId>, text: &str) {
        let pool = &self.name;
        let line = match host {
            Some(host) => format!("pool {pool}: host {host} {text}"),
            None => format!("pool {pool}: {text}"),
        };
        self.event_log.log_event(kind, Some(pool), host, line);
    }

    /// The number of requests that wait because every host is full.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Whether one more request may join the queue.
    pub fn has_queue_room(&self) -> bool {
        self.queue.waiting() < self.queue.size()
    }

    fn membership(&self) -> MutexGuard<'_, Membership> {
        // After a panic under the lock, the next reconciliation repairs the tiers.
        self.membership
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
