//! Hosts by identity: a server has one live state, in however many pools it is and however often they are rebuilt.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{HostCounters, PoolCounters};
use crate::config;
use crate::event_log::EventLog;
use ballast_balancer::{BalancerError, Host, HostId};

/// All known hosts by identity, and the event log for what happens to them.
#[derive(Debug, Clone, Default)]
pub struct HostRegistry {
    hosts: HashMap<HostId, Arc<Host>>,
    event_log: Arc<EventLog>,
    /// By pool and host. The counters of removed hosts stay for a while, so that a host that comes back continues them.
    host_counters: HashMap<(String, HostId), Arc<HostCounters>>,
    /// By pool. Bounded by the number of pool names ever configured.
    pool_counters: HashMap<String, Arc<PoolCounters>>,
    /// By how much checks are less frequent than the configuration says.
    check_stretch: Arc<AtomicU32>,
}

/// With more counters than this, those without a host are forgotten.
const MAX_COUNTERS: usize = 4_096;

impl HostRegistry {
    /// A registry without hosts, with an event log of its own.
    pub fn new() -> Self {
        HostRegistry::default()
    }

    /// A registry without hosts that writes to `event_log`.
    pub fn with_event_log(event_log: Arc<EventLog>) -> Self {
        HostRegistry {
            event_log,
            ..HostRegistry::default()
        }
    }

    /// Makes the checks of all hosts so many times less frequent than the configuration says, from each one's next check on.
    pub fn stretch_checks(&self, factor: u32) {
        self.check_stretch.store(factor, Ordering::Relaxed);
    }

    pub(super) fn check_stretch(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.check_stretch)
    }

    /// The log that pools write the events of their hosts to.
    pub fn event_log(&self) -> &Arc<EventLog> {
        &self.event_log
    }

    /// The host for the configuration `wanted`. A host that is already known at this address keeps its live state.
    ///
    /// # Errors
    /// [`BalancerError::WeightOutOfRange`].
    pub fn host(&mut self, wanted: &config::Host) -> Result<Arc<Host>, BalancerError> {
        let limit = wanted.max_in_flight.and_then(NonZeroU64::new);
        let host = match self.hosts.get(&wanted.id) {
            Some(known) if *known.address() == wanted.address => {
                if (known.weight(), known.max_in_flight()) == (wanted.weight, limit) {
                    return Ok(Arc::clone(known));
                }
                known.with_weight(wanted.weight)?
            }
            _ => {
                Host::named(wanted.id.clone(), wanted.address.clone()).with_weight(wanted.weight)?
            }
        };
        let host = host.with_max_in_flight(limit);
        let host = Arc::new(host);
        self.hosts.insert(wanted.id.clone(), Arc::clone(&host));
        Ok(host)
    }

    /// The counters of a host in a pool; new ones if no pool of that name had the host recently.
    pub(super) fn host_counters(&mut self, pool: &str, host: &HostId) -> Arc<HostCounters> {
        let key = (pool.to_owned(), host.clone());
        Arc::clone(self.host_counters.entry(key).or_default())
    }

    /// The counters of a pool; new ones if no pool ever had that name.
    pub(super) fn pool_counters(&mut self, pool: &str) -> Arc<PoolCounters> {
        Arc::clone(self.pool_counters.entry(pool.to_owned()).or_default())
    }

    /// Forgets the hosts that `wanted` does not name.
    pub fn retain<'a>(&mut self, wanted: impl Iterator<Item = &'a HostId>) {
        let wanted: HashSet<_> = wanted.collect();
        self.hosts.retain(|id, _| wanted.contains(id));
        if self.host_counters.len() > MAX_COUNTERS {
            self.host_counters
                .retain(|_, held| Arc::strong_count(held) > 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_a_new_weight_keeps_its_counters() {
        let mut host_registry = HostRegistry::new();
        let mut wanted = config::Host {
            id: HostId::from("a:80"),
            name: "a".to_owned(),
            server_name: None,
            label: None,
            labels: std::collections::BTreeMap::new(),
            source: None,
            is_leaving: false,
            address: ([127, 0, 0, 1], 80).into(),
            weight: 1,
            file_weight: Some(1),
            backup: false,
            max_in_flight: None,
        };
        let old = host_registry.host(&wanted).expect("weight 1");
        let balancer = ballast_balancer::build("random", [old.clone()]).expect("random");
        balancer.inc(old.id()).expect("a member");
        wanted.weight = 7;
        let heavier = host_registry.host(&wanted).expect("weight 7");
        assert_eq!((heavier.weight(), heavier.in_flight()), (7, 1));
        wanted.address = ([127, 0, 0, 2], 80).into();
        assert_eq!(host_registry.host(&wanted).expect("moved").in_flight(), 0);
    }
}
