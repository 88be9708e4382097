//! What holds for a balancer's hosts together at a moment: whether one starts slowly, whether one has failed lately, and
//! how long an answer usually takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use super::clock::Clock;
use super::decaying_mean::DecayingMean;

/// The mean that picks read is replaced when it is off by more than this part of itself, so that the line of the cache
/// that all of them read is not written by each request that ends.
const MEAN_UPDATE_THRESHOLD: f64 = 1.0 / 64.0;

/// Read by every pick, three loads; written when something happens.
///
/// Relaxed throughout: a pick that reads what held a moment ago weighs the hosts as they were then, which is all that a
/// concurrent pick can know.
#[derive(Debug)]
pub(crate) struct PoolStats {
    clock: Clock,
    /// Until when a host starts slowly; 0 = none does.
    ramping: AtomicU64,
    /// Until when a host's failures count; 0 = none has failed.
    failing: AtomicU64,
    /// The mean latency in nanoseconds, as the bits of an `f64`; infinite before the first answer.
    mean_latency: AtomicU64,
    /// Boxed, away from what every pick reads.
    mean: Box<Mutex<DecayingMean>>,
}

impl PoolStats {
    pub(super) fn new(clock: Clock) -> Self {
        PoolStats {
            clock,
            ramping: AtomicU64::new(0),
            failing: AtomicU64::new(0),
            mean_latency: AtomicU64::new(f64::INFINITY.to_bits()),
            mean: Box::default(),
        }
    }

    /// The balancer's time, nanoseconds of its clock.
    pub(super) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// The time, if a host starts slowly.
    pub(super) fn ramping(&self) -> Option<u64> {
        self.now_until(&self.ramping)
    }

    /// The time, if a host has failed lately.
    pub(super) fn failing(&self) -> Option<u64> {
        self.now_until(&self.failing)
    }

    /// Notes that a host starts slowly until `end`.
    pub(super) fn ramp_until(&self, end: u64) {
        self.ramping.fetch_max(end, Ordering::Relaxed);
    }

    /// Notes that the failures of a host count until `end`.
    pub(super) fn fail_until(&self, end: u64) {
        if self.failing.load(Ordering::Relaxed) < end {
            self.failing.fetch_max(end, Ordering::Relaxed);
        }
    }

    /// The mean latency in nanoseconds; infinite before the first answer.
    pub(super) fn mean_latency(&self) -> f64 {
        f64::from_bits(self.mean_latency.load(Ordering::Relaxed))
    }

    /// Takes in the latency of a request that has succeeded.
    pub(super) fn observe(&self, now: u64, latency: Duration) {
        // One sample less makes no other mean, so nobody waits here for another.
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

    /// The time, if it is before `until`, which is set back once it is over.
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
        // Fails if it was prolonged meanwhile.
        let _ = until.compare_exchange(end, 0, Ordering::Relaxed, Ordering::Relaxed);
        None
    }
}
