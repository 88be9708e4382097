//! The pool of idle connections to hosts. Each thread keeps the connections that it used; any thread may reuse them, but
//! for those that belong to a client's connection: these are for that client alone, which one thread serves.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pingora::upstreams::peer::{HttpPeer, Peer};
use tokio::time::Instant;

use super::host_connection::{HostConnection, PoolKey};

/// The maximum number of idle connections that belong to one client's connection; more than one, because its requests go
/// to several hosts.
const MAX_OWNED: usize = 4;

/// The number of idle connections in all threads.
static IDLE_COUNT: AtomicUsize = AtomicUsize::new(0);

/// A connection in the pool.
struct IdleConnection {
    host: HostConnection,
    /// Tells the connections of an owner apart; see [`peer_mark`].
    peer_mark: u64,
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

/// Idle connections by key. The last of each list was used last.
#[derive(Default)]
struct IdleConnections(HashMap<PoolKey, Vec<IdleConnection>>);

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
    fn take(&mut self, key: PoolKey, peer_mark: u64, now: Instant) -> Option<HostConnection> {
        let kept = self.0.get_mut(&key)?;
        while let Some(position) = kept.iter().rposition(|idle| idle.peer_mark == peer_mark) {
            let mut idle = kept.remove(position);
            if idle.is_usable(now) {
                return Some(idle.host);
            }
        }
        None
    }

    fn put(&mut self, idle: IdleConnection) {
        let key = idle.host.key;
        let kept = self.0.entry(key).or_default();
        if key.is_owned() && kept.len() >= MAX_OWNED {
            kept.remove(0);
        }
        kept.push(idle);
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
/// that accept few connections: they never see more connections than concurrent requests. With an `owner`, only a
/// connection that belongs to it is taken.
pub(super) fn take(
    peer: &HttpPeer,
    owner: Option<NonZeroU64>,
    now: Instant,
) -> Option<HostConnection> {
    let peer_hash = peer.reuse_hash();
    let key = PoolKey::new(owner, peer_hash);
    let peer_mark = peer_mark(key, || peer_hash);
    THIS_THREAD.with(|this_thread| {
        let found = lock(this_thread).take(key, peer_mark, now);
        if found.is_some() || key.is_owned() {
            return found;
        }
        let threads = lock(&ALL_THREADS);
        let others = threads
            .iter()
            .filter(|other| !Arc::ptr_eq(this_thread, other));
        let mut others = others.filter_map(|other| lock(other).take(key, peer_mark, now));
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
            peer_mark: peer_mark(host.key, || peer.reuse_hash()),
            host,
            expires,
            _permit,
        };
        idle_connections.put(idle);
    });
}

/// The idle connections to `peer` that all clients share, in all threads. Takes the lock of each thread for a moment.
pub(super) fn count(peer: &HttpPeer) -> usize {
    let key = PoolKey::new(None, peer.reuse_hash());
    let threads = lock(&ALL_THREADS).clone();
    let counts = threads
        .iter()
        .map(|thread| lock(thread).0.get(&key).map_or(0, Vec::len));
    counts.sum()
}

/// Closes the idle connections of this thread that belong to `owner`.
pub(super) fn close_owned(owner: NonZeroU64) {
    // Fails only while the thread ends, which closes all of them.
    let key = PoolKey::new(Some(owner), 0);
    let _ = THIS_THREAD.try_with(|this_thread| lock(this_thread).0.remove(&key));
}

/// What tells the connections apart that have the same key. 0: all of them lead to the same peer.
fn peer_mark(key: PoolKey, peer_hash: impl FnOnce() -> u64) -> u64 {
    match key.is_owned() {
        true => peer_hash(),
        false => 0,
    }
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
    async fn connections_stay_idle_up_to_the_limit_and_for_their_owners() {
        let connector = TransportConnector::new(None);
        let mut hosts = Vec::new();
        for _ in 0..3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let address = listener.local_addr().expect("it is bound");
            let mut peer = HttpPeer::new(address, false, String::new());
            peer.options.idle_timeout = Some(std::time::Duration::from_secs(60));
            let host = connect(&connector, (&peer, None), None)
                .await
                .expect("connected");
            let (accepted, _) = listener.accept().await.expect("accepted");
            put(&peer, host, 2);
            hosts.push((peer, accepted));
        }
        assert_eq!(IDLE_COUNT.load(Ordering::Relaxed), 2);
        let counted: usize = hosts.iter().map(|(peer, _)| count(peer)).sum();
        assert_eq!(counted, 2);
        // Another thread finds the most recent one. One of the other two was evicted.
        let last = hosts.remove(2);
        let found = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            let _context = runtime.enter();
            take(&last.0, None, Instant::now()).is_some()
        });
        assert!(found.join().expect("no panic"));
        let remaining = Vec::from_iter(
            hosts
                .iter()
                .map(|(peer, _)| take(peer, None, Instant::now()).is_some()),
        );
        assert_eq!(
            remaining.iter().filter(|found| **found).count(),
            1,
            "{remaining:?}"
        );
        assert_eq!(IDLE_COUNT.load(Ordering::Relaxed), 0);
        // A connection that has an owner is for that one alone, and goes with it.
        let (peer, _accepted) = &hosts[0];
        let [owner, other] = [1, 2].map(NonZeroU64::new);
        let mut listeners = Vec::new();
        for _ in 0..MAX_OWNED + 2 {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let address = listener.local_addr().expect("it is bound");
            let mut peer = peer.clone();
            peer._address = address.into();
            let host = connect(&connector, (&peer, None), owner)
                .await
                .expect("connected");
            put(&peer, host, 100);
            listeners.push((listener, peer));
        }
        assert_eq!(IDLE_COUNT.load(Ordering::Relaxed), MAX_OWNED);
        let (_listener, last) = listeners.last().expect("a host");
        assert!(take(last, None, Instant::now()).is_none());
        assert!(take(last, other, Instant::now()).is_none());
        assert!(take(last, owner, Instant::now()).is_some());
        assert!(take(last, owner, Instant::now()).is_none());
        close_owned(owner.expect("not 0"));
        assert_eq!(IDLE_COUNT.load(Ordering::Relaxed), 0);
    }
}
