//! A pool: hosts, the balancers that choose among them, and policies.
//!
//! The usable hosts are the members of a balancer, and so are the backups and the draining ones, each group of its own:
//! the `tiers`. Who belongs where follows from what is known of the hosts (checks, ejections, drains); `membership` alone
//! brings the balancers in line with it. A pool starts with no host in use.

mod carry_over;
mod explain;
#[cfg(test)]
mod fuzz;
mod host_counters;
mod host_registry;
mod host_status;
mod lease;
mod member;
mod membership;
mod outcome;
mod outlier_detector;
mod pool_state;
mod pool_status;
mod request_counters;
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
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::balancer::{Balancer, BalancerError, HostId, Selection, build_with};
use crate::config;
use crate::event_log::{EventKind, EventLog};
use crate::timestamp::Timestamp;

pub use explain::{CandidateStatus, HostExplanation, PoolExplanation, SelectionOutcome};
pub use host_counters::{CheckOutcome, HostCounters};
pub use host_registry::HostRegistry;
pub use host_status::{CheckResult, HostState};
pub use lease::PoolLease;
pub use member::Member;
pub(crate) use outcome::lacking;
pub use outcome::{Failure, Outcome, lacks_resources};
pub use pool_state::{HealthVerdict, PoolState};
pub use pool_status::{HostStatus, PoolStatus, RetryStatus};
pub use request_counters::{RecentCounts, RequestCounters};
pub use retry_budget::{RetryBudget, RetryCounts, RetryHandle};
pub use selection_reason::SelectionReason;
pub use sticky::{Affinity, StickyTokens};

use membership::Membership;
use select::CountedAcquire;
use tiers::Tier;
use wait_queue::WaitQueue;

/// Hosts, the balancers that choose among them, and policies.
#[derive(Debug)]
pub struct Pool {
    name: String,
    /// The name of the algorithm.
    algorithm: &'static str,
    members: Vec<Member>,
    by_id: HashMap<HostId, usize>,
    /// By the number of their tier.
    tiers: [Box<dyn Balancer>; Tier::SERVING.len()],
    /// Every host, for `when_all_down: try_all` and to count probes.
    all: Box<dyn Balancer>,
    try_all: bool,
    key: Option<config::KeySource>,
    host_header: config::HostHeader,
    health_check: Option<config::HealthCheck>,
    budget: Option<Arc<RetryBudget>>,
    sticky: Option<StickyTokens>,
    ejection: Option<config::Ejection>,
    slow_start: Option<config::SlowStart>,
    queue: WaitQueue,
    membership: Mutex<Membership>,
    /// Hosts that wait for a probe.
    probes_due: AtomicUsize,
    changed: Notify,
    /// Clients' requests.
    request_counters: Arc<RequestCounters>,
    /// Hosts of the file that an operator has removed, and when.
    removed: Vec<(config::Host, Timestamp)>,
    event_log: Arc<EventLog>,
}

/// A pool that cannot be built.
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
    /// A pool without a usable host. Hosts that `host_registry` knows already bring their live state along.
    ///
    /// # Errors
    /// If the configuration was not checked: duplicate hosts, unknown options, an identity that cannot stand in a Host
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
        let config::Algorithm { info, options, key } = &pool.algorithm;
        let mut options = options.clone();
        if let Some(config::SlowStart { window, floor }) = pool.slow_start {
            options = options.slow_start(window, f64::from(floor) / 100.0);
        }
        let build =
            |hosts| build_with(info.name, hosts, &options).map_err(|error| fail(error.to_string()));
        let peer_template = member::PeerTemplate::new(pool, timeouts);
        let members = pool
            .hosts
            .iter()
            .map(|host| {
                let live = host_registry
                    .host(host)
                    .map_err(|error| fail(error.to_string()))?;
                let counters = host_registry.counters(&pool.name, &host.id);
                Member::new(live, counters, host, &peer_template).map_err(fail)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let hosts = members.iter().map(|member| member.host().clone()).collect();
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
            health_check: pool.health_check.clone(),
            budget: pool
                .retries
                .as_ref()
                .map(|policy| Arc::new(RetryBudget::new(policy, host_registry.denied(&pool.name)))),
            sticky: pool.sticky.as_ref().map(|config| {
                StickyTokens::new(config, &pool.name, pool.hosts.iter().map(|host| &host.id))
            }),
            ejection: pool.ejection.clone(),
            slow_start: pool.slow_start,
            queue: WaitQueue::new(&pool.limits),
            membership: Mutex::default(),
            probes_due: AtomicUsize::new(0),
            changed: Notify::new(),
            request_counters: Arc::default(),
            removed: pool.removed.clone(),
            event_log: Arc::clone(host_registry.event_log()),
        })
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the algorithm that chooses its hosts.
    pub fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// Every host, in the order of the configuration.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The host of this identity.
    pub fn member(&self, id: &HostId) -> Option<&Member> {
        self.by_id.get(id).map(|&position| &self.members[position])
    }

    /// Where the hash key comes from; `None` if the algorithm looks at none.
    pub fn key(&self) -> Option<&config::KeySource> {
        self.key.as_ref()
    }

    /// What a host sees as Host.
    pub fn host_header(&self) -> config::HostHeader {
        self.host_header
    }

    /// The active check; `None` if every host counts as healthy.
    pub fn health_check(&self) -> Option<&config::HealthCheck> {
        self.health_check.as_ref()
    }

    /// When requests are sent again and how often; `None` if they never are.
    pub fn budget(&self) -> Option<&Arc<RetryBudget>> {
        self.budget.as_ref()
    }

    /// What keeps clients with their hosts, if anything does.
    pub fn sticky(&self) -> Option<&StickyTokens> {
        self.sticky.as_ref()
    }

    /// Hosts that new requests may go to, draining ones not counted.
    pub fn usable(&self) -> usize {
        self.members.iter().filter(|host| host.is_usable()).count()
    }

    /// Clients' requests that have ended, and those of them that failed.
    pub fn request_counters(&self) -> &RequestCounters {
        &self.request_counters
    }

    /// Where it is noted what happens to the hosts.
    pub fn event_log(&self) -> &Arc<EventLog> {
        &self.event_log
    }

    /// Notes what has happened to a host, or to the pool as a whole. `text` goes on after `pool NAME: ` and, where there is
    /// a host, `host ID `.
    pub fn log_event(&self, kind: EventKind, host: Option<&HostId>, text: &str) {
        let pool = &self.name;
        let line = match host {
            Some(host) => format!("pool {pool}: host {host} {text}"),
            None => format!("pool {pool}: {text}"),
        };
        self.event_log.log_event(kind, Some(pool), host, line);
    }

    /// Requests that wait because every host is full.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Counts the request on the host that it wants, if it wants one and that one can have it, else picks a host.
    /// `repeatable` says whether the request can be sent to another host if this one fails it.
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] if no host is usable and `when_all_down` is not `try_all`; [`BalancerError::Busy`] if
    /// all are full, or others wait for a place on one.
    pub fn try_lease(
        self: &Arc<Self>,
        request: &Selection<'_>,
        preferred: Option<&HostId>,
        repeatable: bool,
    ) -> Result<PoolLease, BalancerError> {
        // Nobody goes past those who wait.
        match self.queue.waiting() {
            0 => self.lease_preferred(request, preferred, repeatable),
            _ => Err(BalancerError::Busy),
        }
    }

    /// Whether one more request may wait in line.
    pub fn has_queue_room(&self) -> bool {
        self.queue.waiting() < self.queue.size()
    }

    /// As [`try_lease`](Self::try_lease), but waits in line while every host is full. Dropping the future gives
    /// the place up.
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] as above; [`BalancerError::Busy`] if the line is full or does not move in time.
    pub async fn lease_queued(
        self: &Arc<Self>,
        request: &Selection<'_>,
        preferred: Option<&HostId>,
        repeatable: bool,
    ) -> Result<PoolLease, BalancerError> {
        let joined = Instant::now();
        let attempt = || self.lease_preferred(request, preferred, repeatable);
        let lease = self.queue.wait(attempt).await?;
        Ok(lease.with_wait(joined.elapsed()))
    }

    fn lease_preferred(
        self: &Arc<Self>,
        request: &Selection<'_>,
        preferred: Option<&HostId>,
        repeatable: bool,
    ) -> Result<PoolLease, BalancerError> {
        let (counted, why) = self.select(request, preferred, repeatable, &CountedAcquire)?;
        PoolLease::new(self, counted, why).ok_or(BalancerError::NoHosts)
    }

    /// A host for an attempt in place of another one, past those who wait.
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] and [`BalancerError::Busy`].
    pub fn lease(
        self: &Arc<Self>,
        request: &Selection<'_>,
        repeatable: bool,
    ) -> Result<PoolLease, BalancerError> {
        let (counted, why) = self.select(request, None, repeatable, &CountedAcquire)?;
        PoolLease::new(self, counted, why).ok_or(BalancerError::NoHosts)
    }

    /// Counts a request on a host that was chosen elsewhere, if it is one that requests go to now.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if it is not; [`BalancerError::Busy`] if it is full.
    pub fn lease_of(self: &Arc<Self>, id: &HostId) -> Result<PoolLease, BalancerError> {
        let counted = self.acquire_preferred(id, &CountedAcquire)?;
        let unknown = || BalancerError::UnknownHost(id.clone());
        PoolLease::new(self, counted, SelectionReason::Sticky).ok_or_else(unknown)
    }

    fn membership(&self) -> MutexGuard<'_, Membership> {
        // A panic while it was held leaves tiers that the next reconciliation puts right.
        self.membership
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
