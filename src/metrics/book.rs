//! The counters by the names of pools and hosts, so that a new site goes on with those of the one before it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::tally::{HostTally, PoolTally};
use crate::balancer::HostId;

/// Counters by name. They live as long as somebody counts with them: the observer of a site that serves, or that requests
/// still have.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<Pages>);

#[derive(Debug, Default)]
pub(super) struct Pages {
    pools: HashMap<String, Weak<PoolTally>>,
    hosts: HashMap<(String, HostId), Weak<HostTally>>,
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
        find(&mut self.pools, pool.to_owned())
    }

    /// The counters of a host in a pool; new ones if it has none there.
    pub(super) fn host(&mut self, pool: &str, host: &HostId) -> Arc<HostTally> {
        find(&mut self.hosts, (pool.to_owned(), host.clone()))
    }

    /// Forgets the names whose counters nobody has any more.
    pub(super) fn tidy(&mut self) {
        self.pools.retain(|_, tally| tally.strong_count() > 0);
        self.hosts.retain(|_, tally| tally.strong_count() > 0);
    }
}

fn find<K: Hash + Eq, T: Default>(tallies: &mut HashMap<K, Weak<T>>, key: K) -> Arc<T> {
    let known = tallies.entry(key).or_default();
    known.upgrade().unwrap_or_else(|| {
        let new = Arc::new(T::default());
        *known = Arc::downgrade(&new);
        new
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_again_while_somebody_has_them() {
        let book = Book::default();
        let mut pages = book.open();
        let host = HostId::from("127.0.0.1:80");
        let (pool, first) = (pages.pool("a"), pages.host("a", &host));
        pool.retries.add(3);
        assert_eq!(pages.pool("a").retries.get(), 3);
        assert!(Arc::ptr_eq(&pages.host("a", &host), &first));
        assert!(!Arc::ptr_eq(&pages.host("b", &host), &first));
        pages.tidy();
        assert_eq!((pages.pools.len(), pages.hosts.len()), (1, 1));
        drop((pool, first));
        assert_eq!(pages.pool("a").retries.get(), 0);
        pages.tidy();
        assert!(pages.pools.is_empty() && pages.hosts.is_empty());
    }
}
