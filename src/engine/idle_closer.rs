//! The end of connections that are at rest, once the process stops.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Whether connections at rest are to close, and whom to tell then. A connection registers once, so that its rests cost
/// nothing.
#[derive(Debug, Default)]
pub(super) struct IdleCloser {
    is_closing: AtomicBool,
    next: AtomicU64,
    connections: Mutex<HashMap<u64, Waker>>,
}

/// A registered connection.
#[derive(Debug)]
pub(super) struct IdleRegistration<'a> {
    idle_closer: &'a IdleCloser,
    number: u64,
}

impl IdleCloser {
    /// Wakes the task of a connection when connections at rest are to close.
    pub(super) fn register(&self, waker: &Waker) -> IdleRegistration<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.connections().insert(number, waker.clone());
        IdleRegistration {
            idle_closer: self,
            number,
        }
    }

    /// Closes connections that are at rest, now and from now on.
    pub(super) fn close_all(&self) {
        self.is_closing.store(true, Ordering::SeqCst);
        for waker in self.connections().values() {
            waker.wake_by_ref();
        }
    }

    /// Whether a connection at rest is to close.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Waker>> {
        // An entry is set and removed as a whole.
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
