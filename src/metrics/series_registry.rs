//! Counters by the names of pools and hosts, so that they survive a reload.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::series::{HostSeries, RequestSeries};
use ballast_balancer::HostId;

/// With more counters than this, those without an observer are forgotten. They take about 600 bytes each.
const MAX_SERIES: usize = 4_096;

/// Counters by name. They live as long as an observer uses them, and for a while after that, so that a pool or a host
/// that comes back continues its counts.
#[derive(Debug, Default)]
pub(super) struct SeriesRegistry(Mutex<SeriesMap>);

#[derive(Debug, Default)]
pub(super) struct SeriesMap {
    /// Requests that reached no host, by pool.
    pools: HashMap<String, Arc<RequestSeries>>,
    hosts: HashMap<(String, HostId), Arc<HostSeries>>,
    /// The sums of forgotten hosts by pool, so that sums over a pool's hosts never fall.
    forgotten: HashMap<String, HostSeries>,
}

impl SeriesRegistry {
    /// Locks the map.
    pub(super) fn lock(&self) -> MutexGuard<'_, SeriesMap> {
        // A panic cannot leave the map half changed: no code under the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SeriesMap {
    /// The counters of a pool's requests that reached no host; created if it has none.
    pub(super) fn without_host(&mut self, pool: &str) -> Arc<RequestSeries> {
        Arc::clone(self.pools.entry(pool.to_owned()).or_default())
    }

    /// The counters of a host in a pool; created if it has none.
    pub(super) fn host(&mut self, pool: &str, host: &HostId) -> Arc<HostSeries> {
        let name = (pool.to_owned(), host.clone());
        Arc::clone(self.hosts.entry(name).or_default())
    }

    /// Forgets counters without an observer if there are too many.
    pub(super) fn prune(&mut self) {
        self.prune_to(MAX_SERIES);
    }

    fn prune_to(&mut self, most: usize) {
        if self.hosts.len() > most {
            let forgotten = &mut self.forgotten;
            self.hosts.retain(|(pool, _), counters| {
                let used = Arc::strong_count(counters) > 1;
                if !used {
                    let all = forgotten.entry(pool.clone()).or_default();
                    all.merge(counters);
                }
                used
            });
        }
        if self.pools.len() > most {
            self.pools
                .retain(|_, counters| Arc::strong_count(counters) > 1);
            let pools = &self.pools;
            self.forgotten.retain(|pool, _| pools.contains_key(pool));
        }
    }

    /// The sums over all hosts of each pool, including removed ones.
    pub(super) fn sums(&self) -> HashMap<&str, HostSeries> {
        let mut sums = HashMap::<&str, HostSeries>::new();
        let known = self
            .hosts
            .iter()
            .map(|((pool, _), counters)| (pool, &**counters));
        for (pool, counters) in self.forgotten.iter().chain(known) {
            sums.entry(pool).or_default().merge(counters);
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counters_are_found_again_until_there_are_too_many() {
        let registry = SeriesRegistry::default();
        let mut series = registry.lock();
        let host = HostId::from("127.0.0.1:80");
        let observe = |series: &RequestSeries| series.duration.observe(Duration::from_secs(1));
        let count = |series: &RequestSeries| series.duration.read().count();
        let (pool, first) = (series.without_host("a"), series.host("a", &host));
        observe(&pool);
        assert_eq!(count(&series.without_host("a")), 1);
        assert!(Arc::ptr_eq(&series.host("a", &host), &first));
        assert!(!Arc::ptr_eq(&series.host("b", &host), &first));
        series.prune();
        drop((pool, first));
        assert_eq!(count(&series.without_host("a")), 1, "it has come back");
        let kept = series.without_host("b");
        observe(&series.host("b", &host).requests);
        series.prune_to(1);
        assert!(series.hosts.is_empty());
        assert_eq!(count(&series.sums()["b"].requests), 1);
        assert_eq!(series.pools.len(), 1);
        assert!(Arc::ptr_eq(&series.without_host("b"), &kept));
        assert_eq!(count(&series.without_host("a")), 0);
    }
}
