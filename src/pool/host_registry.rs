//! Hosts by identity, so that one server has one live state whichever pools it is in and however often they are rebuilt.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::HostCounters;
use crate::balancer::{BalancerError, Host, HostId};
use crate::config;
use crate::event_log::EventLog;

/// The hosts that have been seen, by identity, and the event log of what happens to them.
#[derive(Debug, Clone, Default)]
pub struct HostRegistry {
    hosts: HashMap<HostId, Arc<Host>>,
    event_log: Arc<EventLog>,
    /// By pool and host. Those of hosts that have left stay for a while, so that a host that comes back counts on.
    counters: HashMap<(String, HostId), Arc<HostCounters>>,
    /// By pool: retries that its budgets did not allow. As many as there were names of pools.
    denied: HashMap<String, Arc<AtomicU64>>,
}

/// Counters without a host are forgotten when there are more counters than this.
const MAX_COUNTERS: usize = 4_096;

impl HostRegistry {
    /// A registry without hosts, and with an event log of its own.
    pub fn new() -> Self {
        HostRegistry::default()
    }

    /// A registry without hosts, what happens to which is noted in `event_log`.
    pub fn with_event_log(event_log: Arc<EventLog>) -> Self {
        HostRegistry {
            event_log,
            ..HostRegistry::default()
        }
    }

    /// Where pools note what happens to their hosts.
    pub fn event_log(&self) -> &Arc<EventLog> {
        &self.event_log
    }

    /// The host that `wanted` describes. One that is known at this address keeps its live state.
    ///
    /// # Errors
    /// [`BalancerError::WeightOutOfRange`].
    pub fn host(&mut self, wanted: &config::Host) -> Result<Arc<Host>, BalancerError> {
        let limit = wanted.max_in_flight.and_then(NonZeroU64::new);
        let host = match self.hosts.get(&wanted.id) {
            Some(known) if known.address() == wanted.address => {
                if (known.weight(), known.max_in_flight()) == (wanted.weight, limit) {
                    return Ok(Arc::clone(known));
                }
                known.with_weight(wanted.weight)?
            }
            _ => Host::named(wanted.id.clone(), wanted.address).with_weight(wanted.weight)?,
        };
        let host = host.with_max_in_flight(limit);
        let host = Arc::new(host);
        self.hosts.insert(wanted.id.clone(), Arc::clone(&host));
        Ok(host)
    }

    /// The counters of a host in a pool; new ones if no pool of that name has had it lately.
    pub fn counters(&mut self, pool: &str, host: &HostId) -> Arc<HostCounters> {
        let key = (pool.to_owned(), host.clone());
        Arc::clone(self.counters.entry(key).or_default())
    }

    /// The count of the retries that budgets of a pool did not allow.
    pub(super) fn denied(&mut self, pool: &str) -> Arc<AtomicU64> {
        Arc::clone(self.denied.entry(pool.to_owned()).or_default())
    }

    /// Forgets the hosts that `wanted` does not name.
    pub fn retain<'a>(&mut self, wanted: impl Iterator<Item = &'a HostId>) {
        let wanted: HashSet<_> = wanted.collect();
        self.hosts.retain(|id, _| wanted.contains(id));
        if self.counters.len() > MAX_COUNTERS {
            self.counters.retain(|_, held| Arc::strong_count(held) > 1);
        }
    }
}
