//! The counters by the names of pools and hosts, so that a new site goes on with those of the one before it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::tally::{HostTally, PoolTally};
use crate::balancer::HostId;

/// Counters without an observer are forgotten when there are more counters than this: they take some 600 bytes each.
const KEPT: usize = 4_096;

/// Counters by name. They live as long as an observer counts with them, and for a while after that, so that a pool or a
/// host that comes back counts on.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Debug, Default)]
pub(super) struct Pages {
    pools: HashMap<String, Arc<PoolTally>>,
    hosts: HashMap<(String, HostId), Arc<HostTally>>,
    /// By pool: what hosts had counted that were forgotten, so that sums over a pool's hosts never fall.
    forgotten: HashMap<String, HostTally>,
}

impl Book {
    /// The book for somebody who reads or writes some of it.
    pub(super) fn open(&self) -> MutexGuard<'_, Pages> {
        // Nothing that is done under the lock can be half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// The counters of a pool; new ones if it has none.
    pub(super) fn pool(&mut self, pool: &str) -> Arc<PoolTally> {
        Arc::clone(self.pools.entry(pool.to_owned()).or_default())
    }

    /// The counters of a host in a pool; new ones if it has none there.
    pub(super) fn host(&mut self, pool: &str, host: &HostId) -> Arc<HostTally> {
        let name = (pool.to_owned(), host.clone());
        Arc::clone(self.hosts.entry(name).or_default())
    }

    /// Forgets counters that no observer has, once there are too many.
    pub(super) fn tidy(&mut self) {
        self.tidy_down_to(KEPT);
    }

    fn tidy_down_to(&mut self, most: usize) {
        if self.hosts.len() > most {
            let forgotten = &mut self.forgotten;
            self.hosts.retain(|(pool, _), tally| {
                let used = Arc::strong_count(tally) > 1;
                if !used {
                    let all = forgotten.entry(pool.clone()).or_default();
                    all.absorb(tally);
                }
                used
            });
        }
        if self.pools.len() > most {
            self.pools.retain(|_, tally| Arc::strong_count(tally) > 1);
            let pools = &self.pools;
            self.forgotten.retain(|pool, _| pools.contains_key(pool));
        }
    }

    /// What the hosts of each pool have counted together, those that have left included.
    pub(super) fn sums(&self) -> HashMap<&str, HostTally> {
        let mut sums = HashMap::<&str, HostTally>::new();
        let known = self.hosts.iter().map(|((pool, _), tally)| (pool, &**tally));
        for (pool, tally) in self.forgotten.iter().chain(known) {
            sums.entry(pool).or_default().absorb(tally);
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
        let book = Book::default();
        let mut pages = book.open();
        let host = HostId::from("127.0.0.1:80");
        let (pool, first) = (pages.pool("a"), pages.host("a", &host));
        pool.retries.add(3);
        assert_eq!(pages.pool("a").retries.get(), 3);
        assert!(Arc::ptr_eq(&pages.host("a", &host), &first));
        assert!(!Arc::ptr_eq(&pages.host("b", &host), &first));
        pages.tidy();
        drop((pool, first));
        assert_eq!(pages.pool("a").retries.get(), 3, "it has come back");
        let kept = pages.pool("b");
        pages
            .host("b", &host)
            .requests
            .took
            .observe(Duration::from_secs(1));
        pages.tidy_down_to(1);
        assert!(pages.hosts.is_empty());
        assert_eq!(pages.sums()["b"].requests.took.read().count(), 1);
        assert_eq!(pages.pools.len(), 1);
        assert!(Arc::ptr_eq(&pages.pool("b"), &kept));
        assert_eq!(pages.pool("a").retries.get(), 0);
    }
}
