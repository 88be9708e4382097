//! The addresses of servers that URLs name, each for a while: the system's resolver takes a thread for each question.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::lookup_host;

use crate::config::Endpoint;

/// How long addresses are used before the name is resolved again.
const LIFETIME: Duration = Duration::from_secs(10);

/// How long others use old addresses while one request resolves the name, or after that has failed.
const GRACE: Duration = Duration::from_secs(1);

/// Names at the same time. Reloads may bring new ones, and then all are forgotten.
const MAX_NAMES: usize = 1_000;

/// The addresses of names.
#[derive(Debug, Default)]
pub(super) struct AddressCache {
    known: Mutex<HashMap<(String, u16), Resolved>>,
}

#[derive(Debug, Clone)]
struct Resolved {
    addresses: Arc<[SocketAddr]>,
    until: Instant,
}

impl AddressCache {
    /// The addresses of a server. Old ones are used if the name cannot be resolved any more.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub(super) async fn addresses(&self, endpoint: &Endpoint) -> io::Result<Arc<[SocketAddr]>> {
        let key = (endpoint.host.clone(), endpoint.port);
        let stale = match self.current(&key, Instant::now()) {
            Ok(addresses) => return Ok(addresses),
            Err(stale) => stale,
        };
        let found = lookup_host((&*key.0, key.1)).await;
        let found = found.map(Iterator::collect::<Arc<_>>);
        match (found, stale) {
            (Ok(addresses), _) => {
                self.insert(key, Arc::clone(&addresses), Instant::now());
                Ok(addresses)
            }
            (Err(_), Some(stale)) => Ok(stale),
            (Err(error), None) => Err(error),
        }
    }

    /// Addresses that may be used, or else old ones, which all but the caller may use for a moment more.
    fn current(
        &self,
        key: &(String, u16),
        now: Instant,
    ) -> Result<Arc<[SocketAddr]>, Option<Arc<[SocketAddr]>>> {
        match self.lock().get_mut(key) {
            Some(resolved) if now < resolved.until => Ok(Arc::clone(&resolved.addresses)),
            Some(resolved) => {
                resolved.until = now + GRACE;
                Err(Some(Arc::clone(&resolved.addresses)))
            }
            None => Err(None),
        }
    }

    fn insert(&self, key: (String, u16), addresses: Arc<[SocketAddr]>, now: Instant) {
        let mut known = self.lock();
        if known.len() >= MAX_NAMES {
            known.clear();
        }
        let until = now + LIFETIME;
        known.insert(key, Resolved { addresses, until });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, u16), Resolved>> {
        // An entry is written as a whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> (String, u16) {
        (format!("host{number}.invalid"), 80)
    }

    fn addresses() -> Arc<[SocketAddr]> {
        Arc::from([SocketAddr::from(([127, 0, 0, 1], 80))])
    }

    #[test]
    fn one_request_resolves_an_old_name_again() {
        let (cache, now) = (AddressCache::default(), Instant::now());
        assert_eq!(cache.current(&key(0), now), Err(None));
        cache.insert(key(0), addresses(), now);
        assert_eq!(cache.current(&key(0), now), Ok(addresses()));
        let later = now + LIFETIME;
        assert_eq!(cache.current(&key(0), later), Err(Some(addresses())));
        assert_eq!(cache.current(&key(0), later), Ok(addresses()));
        let later = later + GRACE;
        assert_eq!(cache.current(&key(0), later), Err(Some(addresses())));
    }

    #[tokio::test]
    async fn old_addresses_serve_while_a_name_cannot_be_resolved() {
        let cache = AddressCache::default();
        let endpoint = Endpoint {
            tls: false,
            host: key(0).0,
            port: 80,
            path: "/".to_owned(),
        };
        assert!(cache.addresses(&endpoint).await.is_err());
        let now = Instant::now();
        let begin = now
            .checked_sub(LIFETIME)
            .expect("the machine runs for longer");
        cache.insert(key(0), addresses(), begin);
        let found = cache.addresses(&endpoint).await;
        assert_eq!(found.expect("old addresses"), addresses());
    }

    #[test]
    fn names_are_bounded() {
        let (cache, now) = (AddressCache::default(), Instant::now());
        for number in 0..=MAX_NAMES {
            cache.insert(key(number), addresses(), now);
        }
        assert_eq!(cache.lock().len(), 1);
    }
}
