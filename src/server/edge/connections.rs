//! How many connections clients have, in all and each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::warn;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Notify;

use crate::proxy::client_network;

/// No more than one line a second about what a flood of clients brings about.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// Descriptors that are neither a client's nor a host's connection: listeners, logs, runtime; at most a quarter of all.
const RESERVED_DESCRIPTORS: u64 = 64;

/// The connections of the whole process.
#[derive(Debug)]
pub(in crate::server) struct Connections {
    open: AtomicU64,
    /// Of each worker, those that it serves.
    by_worker: Vec<Arc<AtomicUsize>>,
    /// What the limit of descriptors suffices for.
    connection_capacity: u64,
    ended: Notify,
    /// By client, those that came in while there was a limit for each.
    clients: Mutex<HashMap<IpAddr, u64>>,
    last_warning: Mutex<Option<Instant>>,
}

impl Connections {
    /// As many as descriptors suffice for, shared out among so many workers, at least one.
    pub(in crate::server) fn with_capacity(connection_capacity: u64, workers: usize) -> Self {
        let by_worker = (0..workers.max(1)).map(|_| Arc::default());
        Connections {
            open: AtomicU64::new(0),
            by_worker: by_worker.collect(),
            connection_capacity,
            ended: Notify::new(),
            clients: Mutex::default(),
            last_warning: Mutex::default(),
        }
    }

    /// Connections that are open.
    pub(in crate::server) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// The counts of the workers' connections.
    pub(super) fn by_worker(&self) -> &[Arc<AtomicUsize>] {
        &self.by_worker
    }

    /// Connections that each worker serves.
    pub(in crate::server) fn of_workers(&self) -> Vec<usize> {
        let counts = self.by_worker.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Waits until there is room for one more.
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

    /// Whether there is room for one more.
    pub(super) fn has_capacity(&self, limit: Option<u64>) -> bool {
        self.open.load(Ordering::Relaxed) < limit.unwrap_or(self.connection_capacity)
    }

    /// Waits until a connection has ended, or for a while: something else may give descriptors back.
    pub(super) async fn wait_one_closed(&self) {
        let _ = tokio::time::timeout(WARNING_INTERVAL, self.ended.notified()).await;
    }

    /// Counts a connection until the returned value is dropped.
    pub(super) fn track(self: &Arc<Self>) -> ConnectionGuard {
        self.open.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard {
            connections: Arc::clone(self),
            client: None,
        }
    }

    /// Writes a warning, unless there was one within the last second.
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
        // One count is changed at a time.
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection. Dropping it ends the counts.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    connections: Arc<Connections>,
    client: Option<IpAddr>,
}

impl ConnectionGuard {
    /// Counts the connection as one of `client`'s as well. `false`: it has `limit` already.
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

/// Takes as many descriptors as the process may have; returns how many.
pub(in crate::server) fn raise_descriptors() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        // POSIX guarantees no more than 20, but every system that the kernel is built for has this.
        return 1_024;
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// How many clients' connections so many descriptors suffice for, and as many requests, each of which needs a host's
/// connection; `idle` may be unused connections to hosts.
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
        let enter = |client: &str, limit| {
            let client = client.parse().expect("an address");
            let mut guard = connections.track();
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
        // An IPv6 client has a whole network.
        let _here = enter("2001:db8::1", Some(1)).expect("room");
        assert!(enter("2001:db8::2", Some(1)).is_none());
        assert!(enter("2001:db8:0:1::1", Some(1)).is_some());
        assert_eq!(connections.clients().len(), 2, "who has gone is forgotten");
        assert_eq!(connections.open.load(Ordering::Relaxed), 2);
    }
}
