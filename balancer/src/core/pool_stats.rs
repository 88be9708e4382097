//! State that all hosts of a balancer share: whether any is in slow start, whether any has failed recently, the mean
//! latency, and the requests in flight on all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use super::clock::Clock;
use super::decaying_mean::DecayingMean;

/// The shared mean is replaced when it is off by more than this fraction, so that the cache line that every pick reads
/// is not written by every request that ends.
const MEAN_UPDATE_THRESHOLD: f64 = 1.0 / 64.0;

/// Read by every pick, three loads; written rarely.
///
/// Relaxed throughout: a pick with slightly stale values weighs the hosts as they were just before, which is all that a
/// concurrent pick can know.
#[derive(Debug)]
pub(crate) struct PoolStats {
    clock: Clock,
    /// When the last slow start ends, nanoseconds of the clock; 0 = no host is in slow start.
    ramping: AtomicU64,
    /// When the last failure ceases to count, nanoseconds of the clock; 0 = no host has failed.
    failing: AtomicU64,
    /// The mean latency in nanoseconds, as the bits of an `f64`; infinite before the first response.
    mean_latency: AtomicU64,
    /// Requests in flight on all members, if the algorithm needs that number.
    total: Option<Box<AtomicU64>>,
    /// Boxed, away from the fields that every pick reads.
    mean: Box<Mutex<DecayingMean>>,
}

impl PoolStats {
    pub(super) fn new(clock: Clock, counts_all: bool) -> Self {
        PoolStats {
            clock,
            ramping: AtomicU64::new(0),
            failing: AtomicU64::new(0),
            mean_latency: AtomicU64::new(f64::INFINITY.to_bits()),
            total: counts_all.then(Box::default),
            mean: Box::default(),
        }
    }

    /// The requests in flight on all members, if the algorithm needs that number.
    #[inline]
    pub(super) fn total(&self) -> Option<&AtomicU64> {
        self.total.as_deref()
    }

    /// The requests in flight on all members; 0 if they are not counted.
    pub(super) fn in_flight(&self) -> u64 {
        self.total().map_or(0, |total| total.load(Ordering::SeqCst))
    }

    /// The current time in nanoseconds of the balancer's clock.
    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// The time, if any host is in slow start.
    pub(super) fn ramping(&self) -> Option<u64> {
        self.now_until(&self.ramping)
    }

    /// The time, if any host has failed recently.
    pub(super) fn failing(&self) -> Option<u64> {
        self.now_until(&self.failing)
    }

    /// Records that a host is in slow start until `end`.
    pub(super) fn ramp_until(&self, end: u64) {
        self.ramping.fetch_max(end, Ordering::Relaxed);
    }

    /// Records that the failures of a host count until `end`.
    pub(super) fn fail_until(&self, end: u64) {
        if self.failing.load(Ordering::Relaxed) < end {
            self.failing.fetch_max(end, Ordering::Relaxed);
        }
    }

    /// The mean latency in nanoseconds; infinite before the first response.
    pub(super) fn mean_latency(&self) -> f64 {
        f64::from_bits(self.mean_latency.load(Ordering::Relaxed))
    }

    /// Adds the latency of a successful request.
    pub(super) fn observe(&self, now: u64, latency: Duration) {
        // Losing one sample hardly changes the mean, so no thread waits for another.
        let mut mean = match self.mean.try_lock() {
            Ok(mean) => mean,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let fresh = mean.add(now, latency);
        let known = self.mean_latency();
        if known.is_infinite() || (fresh - known).abs() > known * MEAN_UPDATE_THRESHOLD {
            self.mean_latency.store(fresh.to_bits(), Ordering::Relaxed);
        }
    }

    /// The time, if it is before `until`; otherwise resets `until` to 0.
    #[inline]
    fn now_until(&self, until: &AtomicU64) -> Option<u64> {
        let end = until.load(Ordering::Relaxed);
        if end == 0 {
            return None;
        }
        let now = self.now();
        if now < end {
            return Some(now);
        }
        // Fails if another thread has extended it meanwhile.
        let _ = until.compare_exchange(end, 0, Ordering::Relaxed, Ordering::Relaxed);
        None
    }
}
