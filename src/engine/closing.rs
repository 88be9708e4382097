//! The end of connections that are at rest, once the process stops.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// Whether connections at rest are to close, and whom to tell then. A connection registers once, so that its rests cost
/// nothing.
#[derive(Debug, Default)]
pub(super) struct Closing {
    closed: AtomicBool,
    next: AtomicU64,
    connections: Mutex<HashMap<u64, Waker>>,
}

/// A registered connection.
#[derive(Debug)]
pub(super) struct Registered<'a> {
    closing: &'a Closing,
    number: u64,
}

impl Closing {
    /// Wakes the task of a connection when connections at rest are to close.
    pub(super) fn register(&self, waker: &Waker) -> Registered<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.connections().insert(number, waker.clone());
        Registered {
            closing: self,
            number,
        }
    }

    /// Closes connections that are at rest, now and from now on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for waker in self.connections().values() {
            waker.wake_by_ref();
        }
    }

    /// Whether a connection at rest is to close.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Waker>> {
        // An entry is set and removed as a whole.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.closing.connections().remove(&self.number);
    }
}
