//! Carries budgets and recent counts over from the pool that this one replaces in the same process. Counters need not
//! be carried: the [`HostRegistry`](super::HostRegistry) has them.
//!
//! State that can be serialized travels as [`PoolState`](super::PoolState), as in a handover to another process.
//! Requests that wait in the old pool's queue keep waiting there, for a host that both pools have.

use std::sync::Arc;

use super::{Member, Pool};

impl Pool {
    /// This pool as the replacement of `before`: it continues with the retry budget and the last minute of `before`.
    pub fn carry_over_from(mut self, before: &Pool) -> Self {
        if let (Some(budget), Some(earlier)) = (&mut self.budget, &before.budget) {
            match budget.policy() == earlier.policy() {
                true => *budget = Arc::clone(earlier),
                false => budget.grant(earlier.balance()),
            }
        }
        self.last_minute = Arc::clone(&before.last_minute);
        for member in &mut self.members {
            let earlier = before.member(member.host().id());
            if let Some(earlier) = earlier {
                member.carry_over(earlier);
                // Under other rules, the same requests have another meaning.
                if self.ejection == before.ejection {
                    *member.outlier_detector() = earlier.outlier_detector().clone();
                }
            }
        }
        self
    }
}

impl Member {
    /// Continues with the recent counts of `before`, the same host in another pool of this name.
    fn carry_over(&mut self, before: &Member) {
        self.last_minute = Arc::clone(&before.last_minute);
        self.count_successes(before.successes());
    }
}
