//! Counters of a host in a pool.

use std::sync::atomic::{AtomicU64, Ordering};

use super::RequestCounts;

/// Counters of a host in a pool. They only grow and survive a rebuild of the pool. No counter depends on another, so
/// relaxed ordering suffices.
#[derive(Debug, Default)]
pub struct HostCounters {
    attempts: AtomicU64,
    errors: AtomicU64,
    ejections: AtomicU64,
    checks: [AtomicU64; CheckOutcome::ALL.len()],
}

/// The result of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The host passed the check.
    Ok,
    /// The host failed the check.
    Failed,
    /// The check timed out.
    TimedOut,
    /// This process lacked a resource that the check needs, such as a file descriptor.
    Resources,
}

impl CheckOutcome {
    /// All outcomes.
    pub const ALL: [CheckOutcome; 4] = [
        CheckOutcome::Ok,
        CheckOutcome::Failed,
        CheckOutcome::TimedOut,
        CheckOutcome::Resources,
    ];

    /// The outcome's name in metrics.
    pub fn code(self) -> &'static str {
        match self {
            CheckOutcome::Ok => "ok",
            CheckOutcome::Failed => "failed",
            CheckOutcome::TimedOut => "timeout",
            CheckOutcome::Resources => "resources",
        }
    }
}

impl HostCounters {
    /// Attempts that have begun, and those of which the host failed. An attempt that failed because of the client or
    /// its request is not an error of the host.
    pub fn counts(&self) -> RequestCounts {
        RequestCounts {
            requests: self.attempts.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }

    pub(super) fn count_attempt(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the host was ejected, failed probes included.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    pub(super) fn count_ejection(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// Each outcome with the number of checks that ended with it.
    pub fn checks(&self) -> impl Iterator<Item = (CheckOutcome, u64)> {
        let counts = self.checks.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        CheckOutcome::ALL.into_iter().zip(counts)
    }

    /// Counts a check.
    pub fn count_check(&self, checked: CheckOutcome) {
        self.checks[checked as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_counted_by_outcome() {
        for checked in CheckOutcome::ALL {
            let counters = HostCounters::default();
            counters.count_check(checked);
            let counted = counters.checks().filter(|(_, count)| *count > 0);
            assert_eq!(Vec::from_iter(counted), [(checked, 1)]);
        }
    }
}
