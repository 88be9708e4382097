//! Counts exported and lost requests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts recorded requests by the result of their export.
#[derive(Debug, Default)]
pub struct ExportCounters {
    exported: AtomicU64,
    lost: AtomicU64,
}

impl ExportCounters {
    /// Requests that a collector has accepted.
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Lost requests: the queue was full, or the collector did not accept them.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn add_exported(&self, requests: usize) {
        self.exported.fetch_add(requests as u64, Ordering::Relaxed);
    }

    pub(super) fn add_lost(&self, requests: usize) {
        self.lost.fetch_add(requests as u64, Ordering::Relaxed);
    }
}
