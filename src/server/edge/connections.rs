//! Counts and limits of client connections, in total and per client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::warn;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Notify;

use crate::config::ListenerAddress;
use crate::proxy::client_network;

/// At most one warning a second: a flood of clients must not flood the log.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// Descriptors that are neither a client's nor a host's connection: listeners, logs, runtimes; at most a quarter of
/// all.
const RESERVED_DESCRIPTORS: u64 = 64;

/// The connections of the whole process.
#[derive(Debug)]
pub(in crate::server) struct Connections {
    open: AtomicU64,
    /// Open connections of each listener.
    by_listener: Mutex<HashMap<ListenerAddress, Arc<AtomicU64>>>,
    /// Open connections of each worker.
    by_worker: Vec<Arc<AtomicUsize>>,
    /// The largest number of connections that the descriptors allow.
    connection_capacity: u64,
    /// TLS handshakes in progress.
    handshakes: AtomicU64,
    ended: Notify,
    /// Connections by client network, counted while there is a limit per client.
    clients: Mutex<HashMap<IpAddr, u64>>,
    last_warning: Mutex<Option<Instant>>,
}

impl Connections {
    /// At most `connection_capacity` connections, spread over `workers` threads, at least one.
    pub(in crate::server) fn with_capacity(connection_capacity: u64, workers: usize) -> Self {
        let by_worker = (0..workers.max(1)).map(|_| Arc::default());
        Connections {
            open: AtomicU64::new(0),
            by_listener: Mutex::default(),
            by_worker: by_worker.collect(),
            connection_capacity,
            handshakes: AtomicU64::new(0),
            ended: Notify::new(),
            clients: Mutex::default(),
            last_warning: Mutex::default(),
        }
    }

    /// Number of open connections.
    pub(in crate::server) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Number of open connections of the listener on `address`.
    pub(in crate::server) fn of_listener(&self, address: &ListenerAddress) -> u64 {
        self.listener(address).load(Ordering::Relaxed)
    }

    /// The counter of the connections of the listener on `address`.
    pub(super) fn listener(&self, address: &ListenerAddress) -> Arc<AtomicU64> {
        // A critical section adds one entry, so a poisoned lock is usable.
        let counters = self.by_listener.lock();
        let mut counters = counters.unwrap_or_else(PoisonError::into_inner);
        Arc::clone(counters.entry(address.clone()).or_default())
    }

    /// The counters of the workers' connections.
    pub(super) fn by_worker(&self) -> &[Arc<AtomicUsize>] {
        &self.by_worker
    }

    /// Number of connections of each worker.
    pub(in crate::server) fn of_workers(&self) -> Vec<usize> {
        let counts = self.by_worker.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Waits until there is capacity for one more connection.
    pub(super) async fn wait_capacity(&self, limit: impl Fn() -> Option<u64>) {
        loop {
            let ended = self.ended.notified();
            let limit = limit();
            if self.has_capacity(limit) {
                return;
            }
            let limit = limit.unwrap_or(self.connection_capacity);
            self.warn_rate_limited(&format!(
                "{limit} connections are open; no more are accepted until one ends"
            ));
            // A reload may change the limit.
            let _ = tokio::time::timeout(WARNING_INTERVAL, ended).await;
        }
    }

    /// Whether there is capacity for one more connection.
    pub(super) fn has_capacity(&self, limit: Option<u64>) -> bool {
        self.open.load(Ordering::Relaxed) < limit.unwrap_or(self.connection_capacity)
    }

    /// Number of TLS handshakes in progress.
    pub(in crate::server) fn handshakes(&self) -> u64 {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// Counts a TLS handshake until the returned value is dropped. `None`: there are `limit` already.
    pub(super) fn begin_handshake(&self, limit: Option<u64>) -> Option<HandshakeGuard<'_>> {
        let before = self.handshakes.fetch_add(1, Ordering::Relaxed);
        let guard = HandshakeGuard(self);
        limit.is_none_or(|limit| before < limit).then_some(guard)
    }

    /// Waits until a connection has ended, for a second at most: other parts of the process may release descriptors,
    /// too.
    pub(super) async fn wait_one_closed(&self) {
        let _ = tokio::time::timeout(WARNING_INTERVAL, self.ended.notified()).await;
    }

    /// Counts a connection, which `listener` counts as well, until the returned value is dropped.
    pub(super) fn track(self: &Arc<Self>, listener: &Arc<AtomicU64>) -> ConnectionGuard {
        self.open.fetch_add(1, Ordering::Relaxed);
        listener.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard {
            connections: Arc::clone(self),
            listener: Arc::clone(listener),
            client: None,
        }
    }

    /// Logs a warning, unless one was logged within the last second.
    pub(super) fn warn_rate_limited(&self, line: &str) {
        let mut last_warning = self
            .last_warning
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last_warning.is_none_or(|last_warning| last_warning.elapsed() >= WARNING_INTERVAL) {
            *last_warning = Some(Instant::now());
            drop(last_warning);
            warn!("{line}");
        }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<IpAddr, u64>> {
        // A critical section changes one count, so a poisoned lock is usable.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open connection. Dropping it decrements the counts.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    connections: Arc<Connections>,
    listener: Arc<AtomicU64>,
    client: Option<IpAddr>,
}

impl ConnectionGuard {
    /// Counts the connection towards `client`'s limit, too. `false`: the client has `limit` connections already.
    pub(super) fn count_for_client(&mut self, client: IpAddr, limit: Option<u64>) -> bool {
        let Some(limit) = limit else { return true };
        let client = client_network(client);
        let mut clients = self.connections.clients();
        let count = clients.entry(client).or_default();
        if *count >= limit {
            return false;
        }
        *count += 1;
        drop(clients);
        self.client = Some(client);
        true
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        self.listener.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = self.client
            && let Entry::Occupied(mut count) = self.connections.clients().entry(client)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.connections.ended.notify_waiters();
    }
}

/// A TLS handshake in progress. Dropping it decrements the count.
#[derive(Debug)]
pub(super) struct HandshakeGuard<'a>(&'a Connections);

impl Drop for HandshakeGuard<'_> {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Raises the soft limit of descriptors to the hard limit; returns the limit in effect.
pub(in crate::server) fn raise_descriptors() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        // POSIX guarantees only 20, but Linux defaults to 1,024.
        return 1_024;
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// How many client connections fit into `descriptors`: each may need a second one to a host, and `idle` may be idle
/// connections to hosts.
pub(in crate::server) fn connection_capacity(descriptors: u64, idle: u64) -> u64 {
    let quarter = descriptors / 4;
    let rest = descriptors - RESERVED_DESCRIPTORS.min(quarter) - idle.min(quarter);
    (rest / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_suffice_for_both_sides_of_each_connection() {
        for (descriptors, expected) in [
            (0, 1),
            (64, 16),
            (1_024, 352),
            (20_000, 9_456),
            (1 << 20, 523_744),
        ] {
            assert_eq!(
                connection_capacity(descriptors, 1_024),
                expected,
                "{descriptors}"
            );
            let connections = connection_capacity(descriptors, 1_024);
            assert!(2 * connections <= descriptors.max(2), "{descriptors}");
        }
    }

    #[test]
    fn each_client_has_its_share_and_gets_it_back() {
        let connections = Arc::new(Connections::with_capacity(352, 1));
        let address = ([192, 0, 2, 9], 80).into();
        let listener = connections.listener(&address);
        let enter = |client: &str, limit| {
            let client = client.parse().expect("an address");
            let mut guard = connections.track(&listener);
            guard.count_for_client(client, limit).then_some(guard)
        };
        let first = enter("192.0.2.1", Some(2)).expect("room");
        let _second = enter("192.0.2.1", Some(2)).expect("room");
        assert!(enter("192.0.2.1", Some(2)).is_none());
        assert!(enter("192.0.2.2", Some(2)).is_some());
        assert!(enter("192.0.2.1", None).is_some());
        drop(first);
        let again = enter("192.0.2.1", Some(2)).expect("room");
        assert!(enter("192.0.2.1", Some(2)).is_none());
        drop(again);
        // IPv6 clients are counted by /64 network.
        let _here = enter("2001:db8::1", Some(1)).expect("room");
        assert!(enter("2001:db8::2", Some(1)).is_none());
        assert!(enter("2001:db8:0:1::1", Some(1)).is_some());
        assert_eq!(connections.clients().len(), 2, "who has gone is forgotten");
        assert_eq!(
            (connections.open(), connections.of_listener(&address)),
            (2, 2)
        );
    }
}
