//! Outlier detection: when failed requests eject a host, for how long, and how the host comes back.
//!
//! A pure state machine; the caller passes the time. A host serves until too many requests fail. It is then ejected for
//! a time that doubles with each ejection, must answer one probe request, and serves again.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::Ejection;

/// The number of steps in which the window of the failure rate slides.
const BUCKETS: usize = 10;

/// More doublings than fit between any configured base and maximum.
const MAX_DOUBLINGS: u32 = 31;

/// Whether one more host of a pool may be ejected, of which `ejected` of `hosts` are already. The allowed percentage
/// is never exceeded (one is always allowed), and the last usable host is never ejected: `others` are usable beside it.
pub(crate) fn may_eject(percent: u32, hosts: usize, ejected: usize, others: usize) -> bool {
    let limit = hosts.saturating_mul(percent as usize) / 100;
    ejected < limit.max(1) && others > 0
}

/// How long a host is ejected after `ejections` others without a long time of serving in between: twice as long each time.
pub(crate) fn ejection_time(policy: &Ejection, ejections: u32) -> Duration {
    let doublings = ejections.min(MAX_DOUBLINGS);
    policy.base.saturating_mul(1 << doublings).min(policy.max)
}

/// The outlier detection of one host.
#[derive(Debug, Clone)]
pub(super) struct OutlierDetector {
    stage: EjectionStage,
    /// Failures since the last success.
    consecutive_failures: u32,
    window: FailureWindow,
    /// Consecutive ejections, without a long time of serving in between.
    ejections: u32,
    /// When the host began to serve after its last ejection.
    serving_since: Option<Instant>,
}

/// The stages of an ejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EjectionStage {
    /// The host takes requests.
    Serving,
    /// The host gets no requests.
    Ejected { until: Instant },
    /// The host waits for a request to probe it.
    ProbeDue { since: Instant },
    /// The probe request is in flight.
    Probing { since: Instant },
}

/// Why a host is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EjectionReason {
    /// Number of consecutive failures.
    Consecutive(u32),
    /// Failures, and requests in the window.
    FailureRate(u32, u32),
}

/// An ejection in the form in which another process takes it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EjectionState {
    ejections: u32,
    /// The remaining time; `None` if the host serves.
    left_ms: Option<u64>,
    /// How long the host has served since the ejection.
    served_ms: u64,
}

impl OutlierDetector {
    pub(super) fn new(now: Instant) -> Self {
        OutlierDetector {
            stage: EjectionStage::Serving,
            consecutive_failures: 0,
            window: FailureWindow::new(now),
            ejections: 0,
            serving_since: None,
        }
    }

    pub(super) fn stage(&self) -> EjectionStage {
        self.stage
    }

    /// Whether new requests avoid the host.
    pub(super) fn is_ejected(&self) -> bool {
        self.stage != EjectionStage::Serving
    }

    /// Records the outcome of a request. Returns the reason if the host should be ejected now.
    pub(super) fn observe(
        &mut self,
        policy: &Ejection,
        now: Instant,
        failed: bool,
    ) -> Option<EjectionReason> {
        if self.is_ejected() {
            return None;
        }
        self.window.add(policy.window, now, failed);
        if !failed {
            self.consecutive_failures = 0;
            return None;
        }
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        if policy
            .consecutive
            .is_some_and(|limit| self.consecutive_failures >= limit)
        {
            return Some(EjectionReason::Consecutive(self.consecutive_failures));
        }
        let rate = policy.rate?;
        let (requests, failures) = self.window.sums();
        let exceeds_rate = u64::from(failures) * 100 >= u64::from(rate) * u64::from(requests);
        (requests >= policy.min_requests && exceeds_rate)
            .then_some(EjectionReason::FailureRate(failures, requests))
    }

    /// Ejects the host; returns for how long.
    pub(super) fn eject(&mut self, policy: &Ejection, now: Instant) -> Duration {
        let served = self.serving_since.take().map(|since| now - since);
        if served.is_some_and(|served| served >= policy.max) {
            self.ejections = 0;
        }
        let time = ejection_time(policy, self.ejections);
        self.ejections = self.ejections.saturating_add(1);
        self.stage = EjectionStage::Ejected { until: now + time };
        time
    }

    /// Clears the counts when the host may not be ejected now, so that the next request does not ask again at once.
    pub(super) fn reset_counts(&mut self, now: Instant) {
        self.consecutive_failures = 0;
        self.window = FailureWindow::new(now);
    }

    /// Ends an ejection whose time is over.
    pub(super) fn tick(&mut self, now: Instant) {
        if let EjectionStage::Ejected { until } = self.stage
            && until <= now
        {
            self.stage = EjectionStage::ProbeDue { since: until };
        }
    }

    /// Begins the probe of an ejected host; `false` if no probe is due.
    pub(super) fn begin_probe(&mut self) -> bool {
        let EjectionStage::ProbeDue { since } = self.stage else {
            return false;
        };
        self.stage = EjectionStage::Probing { since };
        true
    }

    /// Ends a probe that gave no outcome; another request has to probe the host.
    pub(super) fn cancel_probe(&mut self) {
        if let EjectionStage::Probing { since } = self.stage {
            self.stage = EjectionStage::ProbeDue { since };
        }
    }

    /// The host serves again. Only the number of its ejections is kept.
    pub(super) fn uneject(&mut self, now: Instant) {
        if self.is_ejected() {
            self.stage = EjectionStage::Serving;
            self.consecutive_failures = 0;
            self.window = FailureWindow::new(now);
            self.serving_since = Some(now);
        }
    }

    /// The state for another process; `None` if there is nothing to carry over.
    pub(super) fn export(&self, now: Instant) -> Option<EjectionState> {
        let left_ms = match self.stage {
            EjectionStage::Serving => None,
            EjectionStage::Ejected { until } => Some(millis(until.saturating_duration_since(now))),
            EjectionStage::ProbeDue { .. } | EjectionStage::Probing { .. } => Some(0),
        };
        let served = self
            .serving_since
            .map_or(Duration::ZERO, |since| now - since);
        (self.ejections > 0).then_some(EjectionState {
            ejections: self.ejections,
            left_ms,
            served_ms: millis(served),
        })
    }

    /// Continues from another process's state.
    pub(super) fn resume(&mut self, policy: &Ejection, carried: EjectionState, now: Instant) {
        self.ejections = carried.ejections;
        match carried.left_ms {
            Some(left) => {
                let left = Duration::from_millis(left).min(policy.max);
                self.stage = EjectionStage::Ejected { until: now + left };
                self.serving_since = None;
            }
            None => {
                self.stage = EjectionStage::Serving;
                self.serving_since = now.checked_sub(Duration::from_millis(carried.served_ms));
            }
        }
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Requests and failures in a sliding window of [`BUCKETS`] buckets.
#[derive(Debug, Clone)]
struct FailureWindow {
    origin: Instant,
    /// The number of the newest bucket, counted from the origin.
    newest: u64,
    /// Requests and failures of each bucket.
    buckets: [(u32, u32); BUCKETS],
}

impl FailureWindow {
    fn new(now: Instant) -> Self {
        FailureWindow {
            origin: now,
            newest: 0,
            buckets: [(0, 0); BUCKETS],
        }
    }

    fn add(&mut self, length: Duration, now: Instant, failed: bool) {
        let width = (length.as_nanos() / BUCKETS as u128).max(1);
        let since = now.saturating_duration_since(self.origin).as_nanos();
        let number = u64::try_from(since / width).unwrap_or(u64::MAX);
        if number > self.newest {
            let passed = (number - self.newest).min(BUCKETS as u64);
            for step in 0..passed {
                self.buckets[((number - step) % BUCKETS as u64) as usize] = (0, 0);
            }
            self.newest = number;
        }
        let (requests, failures) = &mut self.buckets[(self.newest % BUCKETS as u64) as usize];
        *requests = requests.saturating_add(1);
        *failures = failures.saturating_add(u32::from(failed));
    }

    fn sums(&self) -> (u32, u32) {
        let sum =
            |(a, b): (u32, u32), (c, d): &(u32, u32)| (a.saturating_add(*c), b.saturating_add(*d));
        self.buckets.iter().fold((0, 0), sum)
    }
}

#[cfg(test)]
pub(super) mod tests;
