//! What a host's requests say about it: when they eject it, for how long, and how it comes back.
//!
//! A pure state machine; the time is passed in. A host serves until too many requests fail, is then left alone for a
//! while that doubles with each ejection, has to prove itself with one request, and serves again.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::Ejection;

/// How finely the window of the failure rate slides.
const BUCKETS: usize = 10;

/// More doublings than any configuration of times allows to matter.
const MAX_DOUBLINGS: u32 = 31;

/// Whether one more host of a pool may be ejected, `ejected` of `hosts` being so: never beyond the allowed percentage
/// (one is always allowed), and never the last usable one, `others` being usable beside it.
pub(super) fn may_eject(percent: u32, hosts: usize, ejected: usize, others: usize) -> bool {
    let most = hosts.saturating_mul(percent as usize) / 100;
    ejected < most.max(1) && others > 0
}

/// What a host's requests have said about it.
#[derive(Debug, Clone)]
pub(super) struct OutlierDetector {
    stage: EjectionStage,
    /// Failures since the last success.
    consecutive_failures: u32,
    window: FailureWindow,
    /// Ejections in a row, with no long good time in between.
    ejections: u32,
    /// Since when it serves again after an ejection.
    serving_since: Option<Instant>,
}

/// Where a host is between serving and serving again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EjectionStage {
    /// It takes requests.
    Serving,
    /// It is left alone.
    Ejected { until: Instant },
    /// It waits for a request that it can prove itself with.
    ProbeDue { since: Instant },
    /// That request runs.
    Probing { since: Instant },
}

/// Why a host is to be ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EjectionReason {
    /// So many failures in a row.
    Consecutive(u32),
    /// So many failures out of so many requests.
    FailureRate(u32, u32),
}

/// An ejection as it travels to another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EjectionState {
    ejections: u32,
    /// How long it still lasts; `None` if the host serves.
    left_ms: Option<u64>,
    /// How long the host has served since.
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

    /// Whether new requests have to keep away.
    pub(super) fn is_ejected(&self) -> bool {
        self.stage != EjectionStage::Serving
    }

    /// Takes in how a request went. Returns a reason if it should eject the host now.
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
            .is_some_and(|most| self.consecutive_failures >= most)
        {
            return Some(EjectionReason::Consecutive(self.consecutive_failures));
        }
        let rate = policy.rate?;
        let (requests, failures) = self.window.sums();
        let beyond = u64::from(failures) * 100 >= u64::from(rate) * u64::from(requests);
        (requests >= policy.min_requests && beyond)
            .then_some(EjectionReason::FailureRate(failures, requests))
    }

    /// Ejects the host; returns for how long.
    pub(super) fn eject(&mut self, policy: &Ejection, now: Instant) -> Duration {
        let served = self.serving_since.take().map(|since| now - since);
        if served.is_some_and(|served| served >= policy.max) {
            self.ejections = 0;
        }
        let doublings = self.ejections.min(MAX_DOUBLINGS);
        self.ejections = self.ejections.saturating_add(1);
        let time = policy.base.saturating_mul(1 << doublings).min(policy.max);
        self.stage = EjectionStage::Ejected { until: now + time };
        time
    }

    /// The host must not be ejected now; it takes as much as before to ask again.
    pub(super) fn reset_counts(&mut self, now: Instant) {
        self.consecutive_failures = 0;
        self.window = FailureWindow::new(now);
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Instant) {
        if let EjectionStage::Ejected { until } = self.stage
            && until <= now
        {
            self.stage = EjectionStage::ProbeDue { since: until };
        }
    }

    /// Takes the one request of a host that is due. `false`: it is not.
    pub(super) fn begin_probe(&mut self) -> bool {
        let EjectionStage::ProbeDue { since } = self.stage else {
            return false;
        };
        self.stage = EjectionStage::Probing { since };
        true
    }

    /// The request ended without a word on the host; another one has to tell.
    pub(super) fn cancel_probe(&mut self) {
        if let EjectionStage::Probing { since } = self.stage {
            self.stage = EjectionStage::ProbeDue { since };
        }
    }

    /// The host serves again, with nothing held against it but how often it was ejected.
    pub(super) fn uneject(&mut self, now: Instant) {
        if self.is_ejected() {
            self.stage = EjectionStage::Serving;
            self.consecutive_failures = 0;
            self.window = FailureWindow::new(now);
            self.serving_since = Some(now);
        }
    }

    /// What another process has to know.
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

    /// Goes on where another process was.
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

/// Requests and failures over the last while, in buckets.
#[derive(Debug, Clone)]
struct FailureWindow {
    origin: Instant,
    /// The number of the newest bucket since the origin.
    newest: u64,
    /// Requests and failures.
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
