//! The pool of idle connections to hosts. Each thread keeps the connections that it used; any thread may reuse them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora::upstreams::peer::{HttpPeer, Peer};
use tokio::time::Instant;

use super::host_connection::HostConnection;

/// The number of idle connections in all threads.
static IDLE_COUNT: AtomicUsize = AtomicUsize::new(0);

/// A connection in the pool.
struct IdleConnection {
    host: HostConnection,
    /// When it must no longer be reused.
    expires: Instant,
    _permit: IdlePermit,
}

/// One unit of [`IDLE_COUNT`]. Dropping it releases the unit.
struct IdlePermit;

impl IdlePermit {
    /// Counts one more idle connection, unless `capacity` are idle already.
    fn acquire(capacity: usize) -> Option<Self> {
        let count = |count| (count < capacity).then_some(count + 1);
        let permit = IDLE_COUNT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        permit.ok().map(|_| IdlePermit)
    }
}

impl Drop for IdlePermit {
    fn drop(&mut self) {
        IDLE_COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Idle connections by key, which covers address, TLS and its options. The last of each list was used last.
#[derive(Default)]
struct IdleConnections(HashMap<u64, Vec<IdleConnection>>);

/// One thread's idle connections. Another thread looks here before it opens a new connection.
type SharedIdle = Arc<Mutex<IdleConnections>>;

/// The idle connections of all threads.
static ALL_THREADS: Mutex<Vec<SharedIdle>> = Mutex::new(Vec::new());

thread_local! {
    static THIS_THREAD: SharedIdle = {
        let idle = SharedIdle::default();
        lock(&ALL_THREADS).push(Arc::clone(&idle));
        idle
    };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave an entry half written, so a poisoned lock is safe to use.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl IdleConnection {
    fn is_usable(&mut self, now: Instant) -> bool {
        self.expires > now && self.host.is_quiet()
    }
}

impl IdleConnections {
    /// Takes the most recently used connection that is still usable.
    fn take(&mut self, key: u64, now: Instant) -> Option<HostConnection> {
        let kept = self.0.get_mut(&key)?;
        while let Some(mut idle) = kept.pop() {
            if idle.is_usable(now) {
                return Some(idle.host);
            }
        }
        None
    }

    /// Closes one idle connection; `false` if no connection is idle.
    fn evict(&mut self) -> bool {
        let mut kept = self.0.values_mut();
        match kept.find(|kept| !kept.is_empty()) {
            Some(kept) => {
                // The first one has been idle for the longest time.
                kept.remove(0);
                true
            }
            None => false,
        }
    }
}

/// Takes an idle connection to `peer`, from this thread or else from another. Sharing between threads matters for hosts
/// that accept few connections: they never see more connections than concurrent requests.
pub(super) fn take(peer: &HttpPeer, now: Instant) -> Option<HostConnection> {
    let key = peer.reuse_hash();
    THIS_THREAD.with(|this_thread| {
        if let Some(host) = lock(this_thread).take(key, now) {
            return Some(host);
        }
        let threads = lock(&ALL_THREADS);
        let others = threads
            .iter()
            .filter(|other| !Arc::ptr_eq(this_thread, other));
        let mut others = others.filter_map(|other| lock(other).take(key, now));
        others.find_map(HostConnection::move_to_this_thread)
    })
}

/// Returns a connection to `peer` to the pool; at most `capacity` connections are idle in all threads.
pub(super) fn put(peer: &HttpPeer, host: HostConnection, capacity: usize) {
    let Some(idle_timeout) = peer.idle_timeout() else {
        return;
    };
    if idle_timeout.is_zero() {
        return;
    }
    let expires = Instant::now() + idle_timeout;
    THIS_THREAD.with(|this_thread| {
        let mut idle_connections = lock(this_thread);
        let mut permit = IdlePermit::acquire(capacity);
        if permit.is_none() && idle_connections.evict() {
            permit = IdlePermit::acquire(capacity);
        }
        let Some(_permit) = permit else {
            return;
        };
        let idle = IdleConnection {
            host,
            expires,
            _permit,
        };
        idle_connections
            .0
            .entry(idle.host.key)
            .or_default()
            .push(idle);
    });
}

/// Closes this thread's idle connections that have expired or that the host has closed.
pub(super) fn close_expired() {
    let now = Instant::now();
    THIS_THREAD.with(|this_thread| {
        lock(this_thread).0.retain(|_, kept| {
            kept.retain_mut(|idle| idle.is_usable(now));
            !kept.is_empty()
        });
    });
}

#[cfg(test)]
mod tests {
    use pingora::connectors::TransportConnector;
    use tokio::net::TcpListener;

    use super::*;
    use crate::engine::host_connection::connect;

    #[tokio::test]
    async fn the_most_recent_connections_stay_idle_up_to_the_limit() {
        let connector = TransportConnector::new(None);
        let mut hosts = Vec::new();
        for _ in 0..3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let address = listener.local_addr().expect("it is bound");
            let mut peer = HttpPeer::new(address, false, String::new());
            peer.options.idle_timeout = Some(std::time::Duration::from_secs(60));
            let host = connect(&connector, &peer).await.expect("connected");
            let (accepted, _) = listener.accept().await.expect("accepted");
            put(&peer, host, 2);
            hosts.push((peer, accepted));
        }
        assert_eq!(IDLE_COUNT.load(Ordering::Relaxed), 2);
        // Another thread finds the most recent one. One of the other two was evicted.
        let last = hosts.remove(2);
        let found = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            let _context = runtime.enter();
            take(&last.0, Instant::now()).is_some()
        });
        assert!(found.join().expect("no panic"));
        let remaining = Vec::from_iter(
            hosts
                .iter()
                .map(|(peer, _)| take(peer, Instant::now()).is_some()),
        );
        assert_eq!(
            remaining.iter().filter(|found| **found).count(),
            1,
            "{remaining:?}"
        );
        assert_eq!(IDLE_COUNT.load(Ordering::Relaxed), 0);
    }
}
