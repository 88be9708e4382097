//! The side effects of a pick, so that the same code serves real picks and dry runs.

use std::sync::atomic::{AtomicU64, Ordering};

use super::explanation::CandidateReason;
use super::pick_request::PickRequest;
use super::picker::DynPicker;
use super::rng::thread_random;

/// The side effects of a pick. [`NoTrace`] performs them; a [`DryRun`](super::DryRun) keeps them to itself, and records
/// what the pick finds about the hosts.
pub(crate) trait PickTrace {
    /// What `picker` picks in this mode.
    fn pick(&self, picker: &dyn DynPicker, request: &PickRequest<'_>) -> Option<usize>;

    /// 64 uniform bits that do not depend on a seed.
    fn draw(&self) -> u64;

    /// Reads the atomic; the following methods work likewise. `order` must be valid for loads and stores.
    fn load(&self, cell: &AtomicU64, order: Ordering) -> u64;
    fn store(&self, cell: &AtomicU64, value: u64, order: Ordering);
    fn fetch_add(&self, cell: &AtomicU64, more: u64, order: Ordering) -> u64;
    fn fetch_min(&self, cell: &AtomicU64, value: u64, order: Ordering);
    /// Returns `false` if the value was not `seen`.
    fn compare_exchange(&self, cell: &AtomicU64, seen: u64, value: u64, order: Ordering) -> bool;

    /// The pick considers the host at `position`.
    fn visit(&self, position: usize);
    /// The pick compares the host by this load.
    fn record_load(&self, position: usize, load: f64);
    /// The pick rejects the host.
    fn reject(&self, position: usize, reason: CandidateReason);
}

/// A real pick: side effects happen, nothing is recorded.
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
