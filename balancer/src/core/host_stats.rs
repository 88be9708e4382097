//! The live state of a host: its requests in flight, and statistics of its responses.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::clock::as_nanos;
use super::decaying_mean::DecayingMean;

/// The time constant of the latency and success averages: after this time a sample's weight is 1/e. 600 ms is the value
/// of tsf-go and go-kratos, short enough that one forced retry after 3 s restores a host that has recovered.
const DECAY: Duration = Duration::from_millis(600);

/// The time constant of failures: after this time a failure counts as 1/e of a request in flight. Long enough that a
/// host that always fails gets a request only every few seconds, short enough that a host that recovers soon has its
/// share back. Failures below 1/e count nothing, so a single one is over after this time: otherwise an idle host with
/// an old failure would lose to every idle host without one.
const FAILURE_DECAY: Duration = Duration::from_secs(3);

/// The snapshot state of a host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StatsSnapshot {
    /// The peak-sensitive average latency; `None` before the first response.
    pub latency: Option<Duration>,
    /// The share of recent requests that succeeded, 0 to 1.
    pub success: f64,
}

/// The live state of a host, shared by every [`Host`] of the same identity.
///
/// Readers on the request path only load atomics. Writers of the averages hold `averages` for a few nanoseconds when a
/// request ends; a pick never takes that lock.
#[derive(Debug)]
pub(crate) struct HostStats {
    in_flight: AtomicU64,
    /// When the failures count exactly one request, nanoseconds of the clock; before that time more, after it less, by
    /// the factor e for each [`FAILURE_DECAY`]. One number holds all failures and is read on its own. 0 = none.
    failed: AtomicU64,
    /// Mean latency of successes in nanoseconds, as the bits of an `f64`; 0 = no sample yet.
    mean_latency: AtomicU64,
    /// Peak-sensitive average latency in nanoseconds; 0 = no sample yet.
    latency: AtomicU64,
    /// Share of successes, as the bits of an `f64` in 0..=1.
    success: AtomicU64,
    /// When a balancer last picked this host, nanoseconds of its clock; 0 = never.
    last_chosen: AtomicU64,
    /// Boxed, so that the fields that picks read fit into one cache line.
    averages: Box<Mutex<Averages>>,
}

/// State for the writers of the averages.
#[derive(Debug, Default)]
struct Averages {
    /// When the averages were last written, nanoseconds of the clock.
    at: u64,
    mean_latency: DecayingMean,
}

impl Default for HostStats {
    fn default() -> Self {
        HostStats {
            in_flight: AtomicU64::new(0),
            latency: AtomicU64::new(0),
            success: AtomicU64::new(1f64.to_bits()),
            last_chosen: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            mean_latency: AtomicU64::new(0f64.to_bits()),
            averages: Box::default(),
        }
    }
}

impl HostStats {
    // SeqCst pairs with the hints of least_load: a scan that follows a release must see it.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Counts one more request.
    pub(crate) fn inc(&self) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts one more request if fewer than `limit` are in flight.
    pub(crate) fn inc_below(&self, limit: u64) -> bool {
        if limit == u64::MAX {
            self.inc();
            return true;
        }
        self.in_flight
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| {
                (n < limit).then_some(n + 1)
            })
            .is_ok()
    }

    /// Counts one more request if exactly `seen` are in flight.
    pub(crate) fn inc_if_unchanged(&self, seen: u64) -> bool {
        self.in_flight
            .compare_exchange(seen, seen + 1, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Counts one request less, never below 0; returns the new count, or `None` if there was none.
    pub(crate) fn dec(&self) -> Option<u64> {
        self.in_flight
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .ok()
            .map(|before| before - 1)
    }

    /// Average latency in nanoseconds; `None` before the first sample.
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

    pub(super) fn stats_snapshot(&self) -> StatsSnapshot {
        StatsSnapshot {
            latency: self.latency().map(Duration::from_nanos),
            success: self.success(),
        }
    }

    pub(super) fn restore_stats(&self, snapshot: StatsSnapshot) {
        let latency = snapshot
            .latency
            .map_or(0, |latency| as_nanos(latency).max(1));
        self.latency.store(latency, Ordering::Relaxed);
        let success = match snapshot.success {
            share if share.is_nan() => 1.0,
            share => share.clamp(0.0, 1.0),
        };
        self.success.store(success.to_bits(), Ordering::Relaxed);
    }

    /// Plain mean latency of successes in nanoseconds; 0 before the first sample.
    pub(crate) fn mean_latency(&self) -> f64 {
        f64::from_bits(self.mean_latency.load(Ordering::Relaxed))
    }

    /// The recent failures, in requests in flight.
    pub(crate) fn failures(&self, now: u64) -> f64 {
        match self.failed.load(Ordering::Relaxed) {
            0 => 0.0,
            one_at if now >= one_at.saturating_add(as_nanos(FAILURE_DECAY)) => 0.0,
            one_at => decayed(one_at, now),
        }
    }

    /// When the failures will no longer count, nanoseconds of the clock; 0 = there are none.
    pub(crate) fn failing_until(&self) -> u64 {
        match self.failed.load(Ordering::Relaxed) {
            0 => 0,
            one_at => one_at.saturating_add(as_nanos(FAILURE_DECAY)),
        }
    }

    /// Counts one more failure. The caller holds `averages`.
    fn fail(&self, now: u64) {
        let before = match self.failed.load(Ordering::Relaxed) {
            0 => 0.0,
            one_at => decayed(one_at, now),
        };
        let ahead = (before + 1.0).ln() * as_nanos(FAILURE_DECAY) as f64;
        let one_at = now.saturating_add(ahead as u64);
        self.failed.store(one_at, Ordering::Relaxed);
    }

    /// When a balancer last picked this host.
    pub(crate) fn last_chosen(&self) -> u64 {
        self.last_chosen.load(Ordering::Relaxed)
    }

    /// Records that the host was picked at `now`.
    pub(super) fn mark_chosen(&self, now: u64) {
        self.last_chosen.store(now, Ordering::Relaxed);
    }

    /// Moves the time of the last pick from `before` to `now`; of concurrent threads one succeeds.
    pub(super) fn try_mark_chosen(&self, before: u64, now: u64) -> bool {
        let order = Ordering::Relaxed;
        self.last_chosen
            .compare_exchange(before, now, order, order)
            .is_ok()
    }

    /// Records the outcome of a request that ended at `now` (nanoseconds of the clock).
    ///
    /// Peak-EWMA (Finagle): a latency above the average replaces it at once, one below pulls it down by
    /// `w = exp(-dt / DECAY)`; `dt` is the time since the last sample. Success decays by the same `w` (tsf-go).
    pub(crate) fn observe(&self, now: u64, latency: Duration, succeeded: bool) {
        let mut averages = self.averages.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_sub(averages.at);
        averages.at = now.max(averages.at);
        if succeeded {
            let mean = averages.mean_latency.add(now, latency);
            self.mean_latency.store(mean.to_bits(), Ordering::Relaxed);
        } else {
            self.fail(now);
        }
        let sample = as_nanos(latency).max(1);
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

/// The value at `now` of failures whose value is 1 at `one_at`.
fn decayed(one_at: u64, now: u64) -> f64 {
    ((one_at as f64 - now as f64) / as_nanos(FAILURE_DECAY) as f64).exp()
}
