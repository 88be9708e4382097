//! The health of a member as its checks see it, and its state for people.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

use super::Member;
use crate::pool::HealthVerdict;
use crate::pool::host_status::{CheckResult, HostState, StatusDetails};
use crate::pool::outlier_detector::EjectionStage;

impl Member {
    /// The result of the checks; `None` before the first.
    pub fn verdict(&self) -> Option<HealthVerdict> {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the result of the checks; the pool's [`reconcile`](crate::pool::Pool::reconcile) acts on it.
    pub fn set_verdict(&self, verdict: Option<HealthVerdict>) {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
    }

    /// Whether the checks call the host healthy.
    pub fn is_healthy(&self) -> bool {
        self.verdict()
            .map_or(self.presumed_healthy, |verdict| verdict.healthy)
    }

    /// When the next check is due; `None` if not known yet.
    pub fn next_check(&self) -> Option<Instant> {
        *self
            .next_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets when the next check is due.
    pub fn set_next_check(&self, next_check: Option<Instant>) {
        *self
            .next_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = next_check;
    }

    /// Records a check for people. It has no effect on requests; [`set_verdict`](Member::set_verdict) has.
    pub fn record_check(&self, check: CheckResult) {
        self.status_details().record_check(check);
    }

    /// Requests that the host began to answer successfully so far. A check that timed out means little if this grew
    /// since the check before.
    pub fn successes(&self) -> u64 {
        self.successes.load(Ordering::Relaxed)
    }

    pub(in crate::pool) fn count_success(&self) {
        self.count_successes(1);
    }

    pub(in crate::pool) fn count_successes(&self, more: u64) {
        self.successes.fetch_add(more, Ordering::Relaxed);
    }

    /// Details for people. Hold the guard briefly.
    pub(in crate::pool) fn status_details(&self) -> MutexGuard<'_, StatusDetails> {
        self.status_details
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The state without slow start, which depends on time alone.
    pub(in crate::pool) fn state(&self) -> HostState {
        if !self.is_healthy() {
            return match self.verdict() {
                None => HostState::Unchecked,
                Some(_) => HostState::Down,
            };
        }
        match self.outlier_detector().stage() {
            EjectionStage::Ejected { .. } => HostState::Ejected,
            EjectionStage::ProbeDue { .. } | EjectionStage::Probing { .. } => HostState::Probing,
            EjectionStage::Serving if self.is_draining() => HostState::Draining,
            EjectionStage::Serving => HostState::Up,
        }
    }
}
