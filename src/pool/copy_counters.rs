//! Counters of the copies of other pools' requests that a pool gets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyOutcome {
    /// A host has responded, with whatever status.
    Ok,
    /// No host has responded in time.
    Failed,
    /// It was not sent: no host is usable, all are full, or the pool is in maintenance.
    NoHost,
    /// It was not sent: too many copies are in flight.
    TooMany,
    /// It was not sent: the request has too large a body.
    TooLarge,
}

impl CopyOutcome {
    const ALL: [CopyOutcome; 5] = [
        CopyOutcome::Ok,
        CopyOutcome::Failed,
        CopyOutcome::NoHost,
        CopyOutcome::TooMany,
        CopyOutcome::TooLarge,
    ];

    /// A short name from a fixed set.
    pub fn code(self) -> &'static str {
        match self {
            CopyOutcome::Ok => "ok",
            CopyOutcome::Failed => "failed",
            CopyOutcome::NoHost => "no_host",
            CopyOutcome::TooMany => "too_many",
            CopyOutcome::TooLarge => "too_large",
        }
    }
}

/// Counters of a pool's copies. No counter depends on another, so relaxed ordering suffices.
#[derive(Debug, Default)]
pub struct CopyCounters {
    in_flight: AtomicUsize,
    outcomes: [AtomicU64; CopyOutcome::ALL.len()],
}

/// A copy in flight. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct CopyPermit(Arc<CopyCounters>);

impl CopyCounters {
    /// Counts what became of a copy.
    pub fn count(&self, outcome: CopyOutcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Each outcome with its number of copies.
    pub fn outcomes(&self) -> impl Iterator<Item = (CopyOutcome, u64)> {
        let counts = self.outcomes.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        CopyOutcome::ALL.into_iter().zip(counts)
    }

    /// The number of copies in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Begins a copy, unless `max` are in flight.
    pub(crate) fn begin(self: &Arc<Self>, max: usize) -> Option<CopyPermit> {
        let admit = |count| (count < max).then_some(count + 1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let admitted = self.in_flight.fetch_update(set, fetch, admit).is_ok();
        admitted.then(|| CopyPermit(Arc::clone(self)))
    }
}

impl Drop for CopyPermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_numbered_in_order() {
        for (number, outcome) in CopyOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number, "{outcome:?}");
        }
    }

    #[test]
    fn copies_in_flight_are_bounded() {
        let counters = Arc::new(CopyCounters::default());
        let first = counters.begin(2).expect("room");
        let second = counters.begin(2).expect("room");
        assert!(counters.begin(2).is_none());
        drop(first);
        assert_eq!(counters.in_flight(), 1);
        assert!(counters.begin(1).is_none());
        drop(second);
        assert!(counters.begin(1).is_some());
    }
}
