//! How often something has befallen a host in a pool.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of a host in a pool that only grow; pools that are built anew go on with them. Each says nothing about another,
/// so the weakest order will do.
#[derive(Debug, Default)]
pub struct HostCounters {
    ejections: AtomicU64,
    checks: [AtomicU64; CheckOutcome::ALL.len()],
}

/// How a health check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The host passed it.
    Ok,
    /// It did not.
    Failed,
    /// It took too long.
    TimedOut,
    /// This process lacked what a check needs.
    Resources,
}

impl CheckOutcome {
    /// Every end.
    pub const ALL: [CheckOutcome; 4] = [
        CheckOutcome::Ok,
        CheckOutcome::Failed,
        CheckOutcome::TimedOut,
        CheckOutcome::Resources,
    ];

    /// A short name.
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
    /// How often the host was ejected, or stayed so after another try.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    pub(super) fn count_ejection(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// Each end with the checks that ended so.
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
    fn checks_are_counted_by_their_end() {
        for checked in CheckOutcome::ALL {
            let counters = HostCounters::default();
            counters.count_check(checked);
            let counted = counters.checks().filter(|(_, count)| *count > 0);
            assert_eq!(Vec::from_iter(counted), [(checked, 1)]);
        }
    }
}
