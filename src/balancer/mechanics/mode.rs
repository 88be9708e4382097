//! Whether a choice is made in earnest or rehearsed. The algorithms are written once, for both.

use std::sync::atomic::{AtomicU64, Ordering};

use super::chooser::Chooser;
use super::explanation::Reason;
use super::request::Request;
use super::rng::draw_of_thread;

/// What a choice does beside looking at hosts: it draws, moves turns and leaves notes for the next one. In earnest that
/// happens; a [`Rehearsal`](super::Rehearsal) keeps it to itself, and listens to what the choice says about the hosts.
pub(crate) trait Mode {
    /// What `chooser` chooses in this mode.
    fn pick(&self, chooser: &dyn Chooser, request: &Request<'_>) -> Option<usize>;

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
    fn sees(&self, position: usize);
    /// It weighs the host against others, by this load.
    fn weighs(&self, position: usize, load: f64);
    /// It passes the host over.
    fn passes(&self, position: usize, reason: Reason);
}

/// The choice for a request that will be sent. Nobody listens.
#[derive(Debug)]
pub(crate) struct Earnest;

impl Mode for Earnest {
    #[inline]
    fn pick(&self, chooser: &dyn Chooser, request: &Request<'_>) -> Option<usize> {
        chooser.pick(request)
    }

    #[inline]
    fn draw(&self) -> u64 {
        draw_of_thread()
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
    fn sees(&self, _: usize) {}

    #[inline]
    fn weighs(&self, _: usize, _: f64) {}

    #[inline]
    fn passes(&self, _: usize, _: Reason) {}
}
