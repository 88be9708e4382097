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
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// Descriptors that are neither a client's nor a host's connection: listeners, logs, runtime; at most a quarter of all.
const OWN_DESCRIPTORS: u64 = 64;

/// The connections of the whole process.
#[derive(Debug)]
pub(in crate::server) struct Connections {
    open: AtomicU64,
    /// Of each worker, those that it serves.
    by_worker: Vec<Arc<AtomicUsize>>,
    /// What the limit of descriptors suffices for.
    affordable: u64,
    ended: Notify,
    /// By client, those that came in while there was a limit for each.
    clients: Mutex<HashMap<IpAddr, u64>>,
    told: Mutex<Option<Instant>>,
}

impl Connections {
    /// As many as descriptors suffice for, shared out among so many workers, at least one.
    pub(in crate::server) fn affording(affordable: u64, workers: usize) -> Self {
        let by_worker = (0..workers.max(1)).map(|_| Arc::default());
        Connections {
            open: AtomicU64::new(0),
            by_worker: by_worker.collect(),
            affordable,
            ended: Notify::new(),
            clients: Mutex::default(),
            told: Mutex::default(),
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
    pub(super) async fn room(&self, limit: impl Fn() -> Option<u64>) {
        loop {
            let ended = self.ended.notified();
            let limit = limit();
            if self.has_room(limit) {
                return;
            }
            let limit = limit.unwrap_or(self.affordable);
            self.tell(&format!(
                "{limit} connections are open; no more are accepted until one ends"
            ));
            // A reload may change the limit.
            let _ = tokio::time::timeout(BETWEEN_LINES, ended).await;
        }
    }

    /// Whether there is room for one more.
    pub(super) fn has_room(&self, limit: Option<u64>) -> bool {
        self.open.load(Ordering::Relaxed) < limit.unwrap_or(self.affordable)
    }

    /// Waits until a connection has ended, or for a while: something else may give descriptors back.
    pub(super) async fn one_ended(&self) {
        let _ = tokio::time::timeout(BETWEEN_LINES, self.ended.notified()).await;
    }

    /// Counts a connection until the returned value is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Present {
        self.open.fetch_add(1, Ordering::Relaxed);
        Present {
            connections: Arc::clone(self),
            client: None,
        }
    }

    /// Writes a warning, unless there was one within the last second.
    pub(super) fn tell(&self, line: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= BETWEEN_LINES) {
            *told = Some(Instant::now());
            drop(told);
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
pub(super) struct Present {
    connections: Arc<Connections>,
    client: Option<IpAddr>,
}

impl Present {
    /// Counts the connection as one of `client`'s as well. `false`: it has `most_each` already.
    pub(super) fn is_of(&mut self, client: IpAddr, most_each: Option<u64>) -> bool {
        let Some(most) = most_each else { return true };
        let client = client_network(client);
        let mut clients = self.connections.clients();
        let count = clients.entry(client).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        drop(clients);
        self.client = Some(client);
        true
    }
}

impl Drop for Present {
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
pub(in crate::server) fn affordable(descriptors: u64, idle: u64) -> u64 {
    let quarter = descriptors / 4;
    let rest = descriptors - OWN_DESCRIPTORS.min(quarter) - idle.min(quarter);
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
            assert_eq!(affordable(descriptors, 1_024), expected, "{descriptors}");
            let connections = affordable(descriptors, 1_024);
            assert!(2 * connections <= descriptors.max(2), "{descriptors}");
        }
    }

    #[test]
    fn each_client_has_its_share_and_gets_it_back() {
        let connections = Arc::new(Connections::affording(352, 1));
        let enter = |client: &str, most| {
            let client = client.parse().expect("an address");
            let mut present = connections.enter();
            present.is_of(client, most).then_some(present)
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
