//! A cohort: members that share a hint of their least load.

use std::sync::atomic::{AtomicU64, Ordering};

/// A lower bound of the least load of some members, in requests by weight. It is exact for one thread.
///
/// SeqCst throughout: a release changes the count and then lowers the hint, a raise changes the hint and then reads the
/// counts again, so at least one of them sees the other.
#[derive(Debug, Default)]
pub(crate) struct Cohort {
    /// The bits of an `f64`, which sort like the numbers if these are not negative.
    least: AtomicU64,
}

impl Cohort {
    #[inline]
    pub(crate) fn least(&self) -> f64 {
        f64::from_bits(self.least.load(Ordering::SeqCst))
    }

    pub(crate) fn reset(&self, load: f64) {
        self.least.store(load.to_bits(), Ordering::SeqCst);
    }

    pub(crate) fn lower(&self, load: f64) {
        // Most releases leave the hint unchanged; reading first keeps the cache line shared.
        if load < self.least() {
            self.least.fetch_min(load.to_bits(), Ordering::SeqCst);
        }
    }

    /// Replaces the hint if it is still `seen`.
    pub(crate) fn raise(&self, seen: f64, load: f64) -> bool {
        let (seen, load) = (seen.to_bits(), load.to_bits());
        let order = Ordering::SeqCst;
        self.least
            .compare_exchange(seen, load, order, order)
            .is_ok()
    }
}
