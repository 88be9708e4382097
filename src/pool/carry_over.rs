//! A pool that takes the place of another in the same process goes on counting where the other was.
//!
//! What can be told in words goes along as [`PoolState`](super::PoolState), as it does into another process. Whoever waits
//! in the other's line waits on there, for a host that both have.

use std::sync::Arc;

use super::{Member, Pool};

impl Pool {
    /// This pool, made to take the place of `before`: it goes on with its budget for retries and its
    /// counts.
    pub fn carry_over_from(mut self, before: &Pool) -> Self {
        if let (Some(budget), Some(earlier)) = (&mut self.budget, &before.budget) {
            match budget.policy() == earlier.policy() {
                true => *budget = Arc::clone(earlier),
                false => budget.grant(earlier.balance()),
            }
        }
        self.request_counters = Arc::clone(&before.request_counters);
        for member in &mut self.members {
            let earlier = before.member(member.host().id());
            if let Some(earlier) = earlier {
                member.carry_over(earlier);
                // By other rules the same requests say something else.
                if self.ejection == before.ejection {
                    *member.outlier_detector() = earlier.outlier_detector().clone();
                }
            }
        }
        self
    }
}

impl Member {
    /// Goes on with what `before`, the same host in another pool of the name, has counted.
    fn carry_over(&mut self, before: &Member) {
        self.request_counters = Arc::clone(&before.request_counters);
        self.count_successes(before.successes());
    }
}
