//! Closes idle client connections when the process shuts down.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// The shutdown flag, and the wakers of all client connections. A connection registers once for its lifetime, so
/// becoming idle costs nothing.
#[derive(Debug, Default)]
pub(super) struct IdleCloser {
    is_closing: AtomicBool,
    next: AtomicU64,
    connections: Mutex<HashMap<u64, Waker>>,
}

/// A connection's registration. Dropping it deregisters the connection.
#[derive(Debug)]
pub(super) struct IdleRegistration<'a> {
    idle_closer: &'a IdleCloser,
    number: u64,
}

impl IdleCloser {
    /// Registers a connection, whose task is woken when idle connections have to close.
    pub(super) fn register(&self, waker: &Waker) -> IdleRegistration<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.connections().insert(number, waker.clone());
        IdleRegistration {
            idle_closer: self,
            number,
        }
    }

    /// Closes idle connections, now and from now on.
    pub(super) fn close_all(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        for waker in self.connections().values() {
            waker.wake_by_ref();
        }
    }

    /// Whether an idle connection has to close.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Waker>> {
        // A panic cannot leave an entry half written, so a poisoned lock is safe to use.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for IdleRegistration<'_> {
    fn drop(&mut self) {
        self.idle_closer.connections().remove(&self.number);
    }
}
