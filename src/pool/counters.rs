//! How often something has befallen a host in a pool.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of a host in a pool that only grow; pools that are built anew go on with them. Each says nothing about another,
/// so the weakest order will do.
#[derive(Debug, Default)]
pub struct Counters {
    ejections: AtomicU64,
    checks: [AtomicU64; Checked::ALL.len()],
}

/// How a health check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// The host passed it.
    Ok,
    /// It did not.
    Failed,
    /// It took too long.
    Late,
    /// This process lacked what a check needs.
    Resources,
}

impl Checked {
    /// Every end.
    pub const ALL: [Checked; 4] = [
        Checked::Ok,
        Checked::Failed,
        Checked::Late,
        Checked::Resources,
    ];

    /// A short name.
    pub fn code(self) -> &'static str {
        match self {
            Checked::Ok => "ok",
            Checked::Failed => "failed",
            Checked::Late => "timeout",
            Checked::Resources => "resources",
        }
    }
}

impl Counters {
    /// How often the host was ejected, or stayed so after another try.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    pub(super) fn count_ejection(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// Each end with the checks that ended so.
    pub fn checks(&self) -> impl Iterator<Item = (Checked, u64)> {
        let counts = self.checks.iter();
        let counts = counts.map(|count| count.load(Ordering::Relaxed));
        Checked::ALL.into_iter().zip(counts)
    }

    /// Counts a check.
    pub fn count_check(&self, checked: Checked) {
        self.checks[checked as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_counted_by_their_end() {
        for checked in Checked::ALL {
            let counters = Counters::default();
            counters.count_check(checked);
            let counted = counters.checks().filter(|(_, count)| *count > 0);
            assert_eq!(Vec::from_iter(counted), [(checked, 1)]);
        }
    }
}
