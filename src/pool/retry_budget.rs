//! The retry budget: retries are a share of a pool's requests, so that hosts that fail under load do not get more of
//! it.
//!
//! A retry that may reach a second host is either paid for or free. Each request deposits `share` of a retry, and a
//! retry withdraws a whole one. Over time, attempts ≤ (1 + share) × requests, whatever the hosts do; yet the balance
//! saved in good times is available at once when a host dies with all its requests. In a pool with so few concurrent
//! requests that `min` is more than their share, `min` concurrent retries are free. All others are denied.
//!
//! The account consists of two counters: deposits, which only grow, and withdrawals, which are raised where the balance
//! would exceed what a burst can need. So a request costs additions only, and just a retry needs a compare-and-swap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::PoolCounters;
use crate::config::Retries;

/// The units of one retry. A request deposits `share` of them: with a share in percent they are whole.
const RETRY: u64 = 100;

/// The balance may always reach this many retries, or as many as there are concurrent requests: then each of them can
/// be retried once. More would not help in a burst, only flood hosts that fail after a long good time.
const MAX_SAVED_RETRIES: u64 = 100;

/// In `RetryBudget::running`, the count of free retries is in the upper 32 bits, that of requests in the lower ones.
const FREE_RETRY: u64 = 1 << 32;

/// The retry budget of one pool.
#[derive(Debug)]
pub struct RetryBudget {
    policy: Retries,
    /// In percent.
    share: u64,
    min: u64,
    /// Requests in flight, and free retries among them: one atomic, so that both are read and changed together.
    running: AtomicU64,
    /// Requests that have begun since this budget did. Each deposits its share.
    requests: AtomicU64,
    /// The pool's counters, which outlive this budget.
    counters: Arc<PoolCounters>,
    /// The initial balance, in units.
    granted: AtomicU64,
    /// Withdrawals and what exceeded the maximum balance, in units.
    spent: AtomicU64,
}

impl RetryBudget {
    /// A budget without balance. Retries that it denies are counted in `counters`.
    pub fn new(policy: &Retries, counters: Arc<PoolCounters>) -> Self {
        RetryBudget {
            policy: policy.clone(),
            share: policy.budget.into(),
            min: policy.min.into(),
            running: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            counters,
            granted: AtomicU64::new(0),
            spent: AtomicU64::new(0),
        }
    }

    /// The pool's retry policy.
    pub fn policy(&self) -> &Retries {
        &self.policy
    }

    /// Counts a request until the returned handle is dropped.
    pub fn begin_request(self: &Arc<Self>) -> RetryHandle {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        RetryHandle {
            budget: Arc::clone(self),
            free: false,
        }
    }

    /// The balance in retries.
    pub fn balance(&self) -> f64 {
        let deposited = self.deposited();
        let least = deposited.saturating_sub(self.max_balance());
        let spent = self.spent.load(Ordering::Relaxed).max(least);
        deposited.saturating_sub(spent) as f64 / RETRY as f64
    }

    /// Starts with the balance of another budget, up to the maximum. Does nothing once anything was deposited.
    pub(super) fn grant(&self, balance: f64) {
        if self.deposited() > 0 {
            return;
        }
        let max = MAX_SAVED_RETRIES as f64;
        let parts = balance.clamp(0.0, max) * RETRY as f64;
        self.granted.fetch_add(parts as u64, Ordering::Relaxed);
    }

    /// All deposits, in units.
    fn deposited(&self) -> u64 {
        let granted = self.granted.load(Ordering::Relaxed);
        granted.saturating_add(self.requests.load(Ordering::Relaxed) * self.share)
    }

    /// Free retries in flight.
    pub fn free_retries_running(&self) -> u64 {
        self.running.load(Ordering::Relaxed) / FREE_RETRY
    }

    /// The maximum balance, in units.
    fn max_balance(&self) -> u64 {
        (self.running.load(Ordering::Relaxed) % FREE_RETRY).max(MAX_SAVED_RETRIES) * RETRY
    }

    /// Withdraws a retry from the balance; `false` if the balance is too low.
    fn withdraw(&self) -> bool {
        // A deposit after this only makes the balance greater.
        let deposited = self.deposited();
        let max = self.max_balance();
        self.spent
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spent| {
                let spent = spent.max(deposited.saturating_sub(max)) + RETRY;
                (spent <= deposited).then_some(spent)
            })
            .is_ok()
    }

    /// Counts a free retry as in flight; `false` if none is allowed.
    fn begin_free(&self) -> bool {
        self.running
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |running| {
                let (free, requests) = (running / FREE_RETRY, running % FREE_RETRY);
                let quiet = requests * self.share < self.min * 100;
                (quiet && free < self.min).then_some(running + FREE_RETRY)
            })
            .is_ok()
    }

    fn end_free(&self) {
        self.running.fetch_sub(FREE_RETRY, Ordering::Relaxed);
    }
}

/// One request in the budget. Dropping it ends its count, and that of its free retry.
#[derive(Debug)]
pub struct RetryHandle {
    budget: Arc<RetryBudget>,
    /// Whether a free retry of this request is in flight.
    free: bool,
}

impl RetryHandle {
    /// Asks for one retry, in place of an earlier one of this request. `false` if the budget denies it.
    pub fn retry(&mut self) -> bool {
        self.end_free();
        let budget = &self.budget;
        let paid = budget.withdraw();
        self.free = !paid && budget.begin_free();
        let allowed = paid || self.free;
        if !allowed {
            budget.counters.count_denied_retry();
        }
        allowed
    }

    fn end_free(&mut self) {
        if std::mem::take(&mut self.free) {
            self.budget.end_free();
        }
    }
}

impl Drop for RetryHandle {
    fn drop(&mut self) {
        self.end_free();
        self.budget.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
