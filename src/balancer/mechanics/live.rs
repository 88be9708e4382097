//! The live state of a host: what runs on it and what was learnt from its answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How fast the latency and success averages forget: after this time a sample's weight is 1/e. 600 ms is the value of
/// tsf-go and go-kratos, short enough that one forced re-try after 3 s restores a host that recovered.
const DECAY: Duration = Duration::from_millis(600);

/// What has been learnt of a host from its answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The peak-sensitive average of the time to answer; `None` before the first answer.
    pub latency: Option<Duration>,
    /// The share of recent requests that succeeded, 0 to 1.
    pub success: f64,
}

/// What is measured of a host, shared by every [`Host`] of the same identity.
///
/// Readers on the request path only load atomics. Writers of the averages hold `sampled` for a few nanoseconds when a
/// request ends; the pick never takes it.
#[derive(Debug)]
pub(crate) struct Live {
    in_flight: AtomicU64,
    /// Peak-sensitive average of the time to answer, nanoseconds; 0 = no sample yet.
    latency: AtomicU64,
    /// Share of successes, as the bits of an `f64` in 0..=1.
    success: AtomicU64,
    /// When a balancer last chose this host, nanoseconds of its clock; 0 = never.
    chosen: AtomicU64,
    /// When the averages were last written, nanoseconds of the clock.
    sampled: Mutex<u64>,
}

impl Default for Live {
    fn default() -> Self {
        Live {
            in_flight: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            success: AtomicU64::new(1f64.to_bits()),
            chosen: AtomicU64::new(0),
            sampled: Mutex::new(0),
        }
    }
}

impl Live {
    // SeqCst here pairs with the hints of least_load: a release must be seen by a scan that follows its notice.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Counts one request more; returns the new count.
    pub(crate) fn inc(&self) -> u64 {
        self.in_flight.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Counts one request more if `seen` still runs there.
    pub(crate) fn inc_from(&self, seen: u64) -> bool {
        self.in_flight
            .compare_exchange(seen, seen + 1, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Counts one request less, never below 0; returns the new count, or `None` if nothing ran.
    pub(crate) fn dec(&self) -> Option<u64> {
        self.in_flight
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .ok()
            .map(|before| before - 1)
    }

    /// Average time to answer in nanoseconds; `None` before the first sample.
    pub(crate) fn latency(&self) -> Option<u64> {
        match self.latency.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(nanos),
        }
    }

    /// Share of recent requests that succeeded, 0 to 1.
    pub(crate) fn success(&self) -> f64 {
        f64::from_bits(self.success.load(Ordering::Relaxed))
    }

    pub(super) fn measured(&self) -> Measured {
        Measured {
            latency: self.latency().map(Duration::from_nanos),
            success: self.success(),
        }
    }

    pub(super) fn learn(&self, measured: Measured) {
        let latency = measured.latency.map_or(0, |latency| nanos(latency).max(1));
        self.latency.store(latency, Ordering::Relaxed);
        let success = match measured.success {
            share if share.is_nan() => 1.0,
            share => share.clamp(0.0, 1.0),
        };
        self.success.store(success.to_bits(), Ordering::Relaxed);
    }

    /// When a balancer last chose this host.
    pub(crate) fn chosen(&self) -> u64 {
        self.chosen.load(Ordering::Relaxed)
    }

    /// Notes that the host was chosen at `now`.
    pub(crate) fn choose(&self, now: u64) {
        self.chosen.store(now, Ordering::Relaxed);
    }

    /// Moves the note of the last choice from `before` to `now`; of several threads one succeeds.
    pub(crate) fn claim(&self, before: u64, now: u64) -> bool {
        self.chosen
            .compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes in the outcome of one request that ended at `now` (nanoseconds of the clock).
    ///
    /// Peak-EWMA (Finagle): a latency above the average replaces it at once, one below pulls it down by
    /// `w = exp(-dt / DECAY)`; `dt` is the time since the last sample. Success decays by the same `w` (tsf-go).
    pub(crate) fn observe(&self, now: u64, latency: Duration, succeeded: bool) {
        let mut sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_sub(*sampled);
        *sampled = now.max(*sampled);
        let sample = nanos(latency).max(1);
        let keep = (-(elapsed as f64) / DECAY.as_nanos() as f64).exp();
        let latency = match self.latency() {
            Some(average) if sample < average => {
                (average as f64 * keep + sample as f64 * (1.0 - keep)) as u64
            }
            _ => sample,
        };
        self.latency.store(latency.max(1), Ordering::Relaxed);
        let outcome = if succeeded { 1.0 } else { 0.0 };
        let success = self.success() * keep + outcome * (1.0 - keep);
        self.success.store(success.to_bits(), Ordering::Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
