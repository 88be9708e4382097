//! The counters by the names of pools and hosts, so that a new site goes on with those of the one before it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::series::{HostSeries, PoolSeries};
use crate::balancer::HostId;

/// Counters without an observer are forgotten when there are more counters than this: they take some 600 bytes each.
const MAX_SERIES: usize = 4_096;

/// Counters by name. They live as long as an observer counts with them, and for a while after that, so that a pool or a
/// host that comes back counts on.
#[derive(Debug, Default)]
pub(super) struct SeriesRegistry(Mutex<SeriesMap>);

#[derive(Debug, Default)]
pub(super) struct SeriesMap {
    pools: HashMap<String, Arc<PoolSeries>>,
    hosts: HashMap<(String, HostId), Arc<HostSeries>>,
    /// By pool: what hosts had counted that were forgotten, so that sums over a pool's hosts never fall.
    forgotten: HashMap<String, HostSeries>,
}

impl SeriesRegistry {
    /// The book for somebody who reads or writes some of it.
    pub(super) fn lock(&self) -> MutexGuard<'_, SeriesMap> {
        // Nothing that is done under the lock can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SeriesMap {
    /// The counters of a pool; new ones if it has none.
    pub(super) fn pool(&mut self, pool: &str) -> Arc<PoolSeries> {
        Arc::clone(self.pools.entry(pool.to_owned()).or_default())
    }

    /// The counters of a host in a pool; new ones if it has none there.
    pub(super) fn host(&mut self, pool: &str, host: &HostId) -> Arc<HostSeries> {
        let name = (pool.to_owned(), host.clone());
        Arc::clone(self.hosts.entry(name).or_default())
    }

    /// Forgets counters that no observer has, once there are too many.
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

    /// What the hosts of each pool have counted together, those that have left included.
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
        let book = SeriesRegistry::default();
        let mut series = book.lock();
        let host = HostId::from("127.0.0.1:80");
        let (pool, first) = (series.pool("a"), series.host("a", &host));
        pool.retries.add(3);
        assert_eq!(series.pool("a").retries.get(), 3);
        assert!(Arc::ptr_eq(&series.host("a", &host), &first));
        assert!(!Arc::ptr_eq(&series.host("b", &host), &first));
        series.prune();
        drop((pool, first));
        assert_eq!(series.pool("a").retries.get(), 3, "it has come back");
        let kept = series.pool("b");
        series
            .host("b", &host)
            .requests
            .took
            .observe(Duration::from_secs(1));
        series.prune_to(1);
        assert!(series.hosts.is_empty());
        assert_eq!(series.sums()["b"].requests.took.read().count(), 1);
        assert_eq!(series.pools.len(), 1);
        assert!(Arc::ptr_eq(&series.pool("b"), &kept));
        assert_eq!(series.pool("a").retries.get(), 0);
    }
}
