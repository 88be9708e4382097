//! The ejection of a member because of failed requests.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use super::Member;
use crate::pool::outlier_detector::OutlierDetector;

impl Member {
    /// Whether the host is ejected and has not passed a probe since.
    pub fn is_ejected(&self) -> bool {
        self.outlier_detector().is_ejected()
    }

    /// The detector that ejects the host. Hold the guard briefly.
    pub(in crate::pool) fn outlier_detector(&self) -> MutexGuard<'_, OutlierDetector> {
        self.outlier_detector
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the host's ejections and returns. The outcome of a request counts only in the epoch in which it began.
    pub(in crate::pool) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(in crate::pool) fn begin_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::pool) fn is_probe_due(&self) -> bool {
        self.due.load(Ordering::Relaxed)
    }

    /// Sets the flag and returns the previous value.
    pub(in crate::pool) fn set_probe_due(&self, due: bool) -> bool {
        self.due.swap(due, Ordering::SeqCst)
    }
}
