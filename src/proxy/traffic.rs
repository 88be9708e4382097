//! How many requests the process works on, and whether it wants more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The requests of the whole process.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Requests whose head has been read and which have not ended.
    present: AtomicU64,
    /// Those of them that `limits.max_in_flight` counts.
    admitted: AtomicU64,
    draining: AtomicBool,
    /// Requests that ended in a panic.
    panics: AtomicU64,
}

impl Traffic {
    /// Requests that have not ended, refused ones included.
    pub fn present(&self) -> u64 {
        self.present.load(Ordering::SeqCst)
    }

    /// Requests that ended in a panic so far.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Whether each answer tells its client to close the connection from now on.
    pub fn set_draining(&self, draining: bool) {
        self.draining.store(draining, Ordering::SeqCst);
    }

    /// Whether each answer tells its client to close the connection.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Counts a request until the returned value is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Presence {
        self.present.fetch_add(1, Ordering::SeqCst);
        Presence {
            traffic: Arc::clone(self),
            admitted: false,
        }
    }
}

/// One request that the process works on. Dropping it ends the counts.
#[derive(Debug)]
pub(super) struct Presence {
    traffic: Arc<Traffic>,
    admitted: bool,
}

impl Presence {
    /// Takes one of `limit` places. `false`: none is free.
    pub(super) fn admit(&mut self, limit: u64) -> bool {
        self.admitted = self
            .traffic
            .admitted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < limit).then_some(n + 1)
            })
            .is_ok();
        self.admitted
    }

    /// Counts a panic; returns how many there were.
    pub(super) fn note_panic(&self) -> u64 {
        self.traffic.panics.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn is_draining(&self) -> bool {
        self.traffic.is_draining()
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.admitted {
            self.traffic.admitted.fetch_sub(1, Ordering::Relaxed);
        }
        self.traffic.present.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let traffic = Arc::new(Traffic::default());
        let mut first = traffic.enter();
        let mut second = traffic.enter();
        assert!(first.admit(1));
        assert!(!second.admit(1));
        drop(first);
        assert!(second.admit(1));
        assert_eq!(traffic.present(), 1);
        drop(second);
        assert_eq!(traffic.present(), 0);
    }
}
