//! Whether a choice is made in earnest or rehearsed. The algorithms are written once, for both.

use std::sync::atomic::{AtomicU64, Ordering};

use super::explanation::CandidateReason;
use super::pick_request::PickRequest;
use super::picker::DynPicker;
use super::rng::thread_random;

/// What a choice does beside looking at hosts: it draws, moves turns and leaves notes for the next one. In earnest that
/// happens; a [`DryRun`](super::DryRun) keeps it to itself, and listens to what the choice says about the hosts.
pub(crate) trait PickTrace {
    /// What `picker` chooses in this mode.
    fn pick(&self, picker: &dyn DynPicker, request: &PickRequest<'_>) -> Option<usize>;

    /// 64 uniform bits that depend on no seed.
    fn draw(&self) -> u64;

    /// Reads a cell, as the atomic does; so with the others. The order is one that reads and writes may have.
    fn load(&self, cell: &AtomicU64, order: Ordering) -> u64;
    fn store(&self, cell: &AtomicU64, value: u64, order: Ordering);
    fn fetch_add(&self, cell: &AtomicU64, more: u64, order: Ordering) -> u64;
    fn fetch_min(&self, cell: &AtomicU64, value: u64, order: Ordering);
    /// `false`: something else than `seen` was there.
    fn compare_exchange(&self, cell: &AtomicU64, seen: u64, value: u64, order: Ordering) -> bool;

    /// The choice looks at the host at `position`.
    fn visit(&self, position: usize);
    /// It weighs the host against others, by this load.
    fn record_load(&self, position: usize, load: f64);
    /// It passes the host over.
    fn reject(&self, position: usize, reason: CandidateReason);
}

/// The choice for a request that will be sent. Nobody listens.
#[derive(Debug)]
pub(crate) struct NoTrace;

impl PickTrace for NoTrace {
    #[inline]
    fn pick(&self, picker: &dyn DynPicker, request: &PickRequest<'_>) -> Option<usize> {
        picker.dyn_pick(request)
    }

    #[inline]
    fn draw(&self) -> u64 {
        thread_random()
    }

    #[inline]
    fn load(&self, cell: &AtomicU64, order: Ordering) -> u64 {
        cell.load(order)
    }

    #[inline]
    fn store(&self, cell: &AtomicU64, value: u64, order: Ordering) {
        cell.store(value, order);
    }

    #[inline]
    fn fetch_add(&self, cell: &AtomicU64, more: u64, order: Ordering) -> u64 {
        cell.fetch_add(more, order)
    }

    #[inline]
    fn fetch_min(&self, cell: &AtomicU64, value: u64, order: Ordering) {
        cell.fetch_min(value, order);
    }

    #[inline]
    fn compare_exchange(&self, cell: &AtomicU64, seen: u64, value: u64, order: Ordering) -> bool {
        cell.compare_exchange(seen, value, order, order).is_ok()
    }

    #[inline]
    fn visit(&self, _: usize) {}

    #[inline]
    fn record_load(&self, _: usize, _: f64) {}

    #[inline]
    fn reject(&self, _: usize, _: CandidateReason) {}
}
