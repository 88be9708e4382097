//! How many retries a pool may make: a share of its requests, so that hosts which fail under their load do not get
//! more of it.
//!
//! Two bounds hold for the retries that may have reached a host twice. Of those that run at a time there are at most
//! `max(min, share of the requests that run)`. And over time a request pays in `share` of a retry and each retry takes
//! a whole one out, so that attempts ≤ (1 + share) × requests, whatever the hosts do. A pool with so few requests that
//! `min` is the greater of the two may go on without balance: its retries are bounded by their number at a time.
//!
//! The account is kept with what was paid in as a count that only grows, and what was spent as another one that is
//! lifted where the balance would become more than [`MOST_SAVED`]. So a request costs additions alone, and only a retry
//! compares and swaps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Retries;

/// A retry, in the parts that a request pays in: with a share in percent they are whole.
const RETRY: u64 = 100;

/// The largest balance, in retries: what a pool saved in good times is enough until a host that turns bad is known as
/// such, and too little to flood the rest.
const MOST_SAVED: u64 = 100;

/// In `Budget::running` the count of retries stands above that of requests.
const ONE_RETRY: u64 = 1 << 32;

/// The retries of one pool.
#[derive(Debug)]
pub struct Budget {
    policy: Retries,
    /// In percent.
    share: u64,
    min: u64,
    /// Requests that run, and retries among them: one value, so that the two can be judged together.
    running: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    denied: AtomicU64,
    /// What is not there any more of the payments, in parts of a retry.
    spent: AtomicU64,
}

/// What a pool's requests have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retried {
    /// Requests, each counted once.
    pub requests: u64,
    /// Retries that may have reached a host.
    pub retries: u64,
    /// Retries that the budget did not allow.
    pub denied: u64,
}

impl Budget {
    /// A budget without balance.
    pub fn new(policy: &Retries) -> Self {
        Budget {
            policy: policy.clone(),
            share: policy.budget.into(),
            min: policy.min.into(),
            running: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            spent: AtomicU64::new(0),
        }
    }

    /// Counts a request until the returned value is dropped.
    pub fn enter(self: &Arc<Self>) -> Account {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        Account {
            budget: Arc::clone(self),
            retrying: false,
        }
    }

    /// What has been counted.
    pub fn counts(&self) -> Retried {
        Retried {
            requests: self.requests.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            denied: self.denied.load(Ordering::Relaxed),
        }
    }

    /// Retries that may run beside `requests`.
    fn most_at_a_time(&self, requests: u64) -> u64 {
        (requests * self.share / 100).max(self.min)
    }

    /// Counts one more retry as running. `Some(true)` if it needs no balance.
    fn reserve(&self) -> Option<bool> {
        let before = self
            .running
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |running| {
                let (retries, requests) = (running / ONE_RETRY, running % ONE_RETRY);
                (retries < self.most_at_a_time(requests)).then_some(running + ONE_RETRY)
            })
            .ok()?;
        Some(before % ONE_RETRY * self.share < self.min * 100)
    }

    /// Takes a retry out of the balance.
    fn pay(&self) -> bool {
        // What is paid in after this only makes the balance greater.
        let paid = self.requests.load(Ordering::Relaxed) * self.share;
        self.spent
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |spent| {
                let spent = spent.max(paid.saturating_sub(MOST_SAVED * RETRY)) + RETRY;
                (spent <= paid).then_some(spent)
            })
            .is_ok()
    }

    fn release(&self) {
        self.running.fetch_sub(ONE_RETRY, Ordering::Relaxed);
    }
}

/// One request in the books. Dropping it ends what it counts as running.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    /// Whether a retry of it runs.
    retrying: bool,
}

impl Account {
    /// What the pool's configuration says about retries.
    pub fn policy(&self) -> &Retries {
        &self.budget.policy
    }

    /// Asks for one retry, in place of the one that may be running. `false`: the budget does not allow it.
    pub fn retry(&mut self) -> bool {
        self.end_retry();
        let budget = &self.budget;
        let Some(free) = budget.reserve() else {
            budget.denied.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        // One that is free takes what is there as well, so that a rising load does not find a balance for both.
        if !budget.pay() && !free {
            budget.release();
            budget.denied.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        budget.retries.fetch_add(1, Ordering::Relaxed);
        self.retrying = true;
        true
    }

    fn end_retry(&mut self) {
        if std::mem::take(&mut self.retrying) {
            self.budget.release();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.end_retry();
        self.budget.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn budget(share: u32, min: u32) -> Arc<Budget> {
        Arc::new(Budget::new(&Retries {
            attempts: 2,
            statuses: Vec::new(),
            budget: share,
            min,
            deadline: Duration::from_secs(1),
        }))
    }

    fn running(budget: &Budget) -> (u64, u64) {
        let running = budget.running.load(Ordering::SeqCst);
        (running % ONE_RETRY, running / ONE_RETRY)
    }

    #[test]
    fn a_quiet_pool_has_its_minimum_again_and_again() {
        let budget = budget(20, 3);
        for _ in 0..100 {
            let mut accounts = [(); 4].map(|()| budget.enter());
            let allowed = accounts.iter_mut().map(Account::retry);
            assert_eq!(allowed.filter(|allowed| *allowed).count(), 3);
            assert!(accounts[0].retry(), "a second one in place of the first");
        }
        assert_eq!(running(&budget), (0, 0));
        assert_eq!(
            budget.counts(),
            Retried {
                requests: 400,
                retries: 400,
                denied: 100
            }
        );
    }

    #[test]
    fn a_busy_pool_has_its_share_and_no_more() {
        let budget = budget(20, 3);
        let mut accounts = Vec::from_iter((0..100).map(|_| budget.enter()));
        let mut allowed = 0;
        for _ in 0..3 {
            allowed += accounts
                .iter_mut()
                .filter_map(|a| a.retry().then_some(()))
                .count();
        }
        assert_eq!(allowed, 20);
    }

    #[test]
    fn good_times_are_remembered_up_to_a_bound() {
        let budget = budget(20, 0);
        (0..10_000).for_each(|_| drop(budget.enter()));
        let mut accounts = Vec::from_iter((0..1_000).map(|_| budget.enter()));
        let mut allowed = 0;
        for _ in 0..2_000 {
            allowed += accounts[..200]
                .iter_mut()
                .filter_map(|a| a.retry().then_some(()))
                .count();
        }
        assert_eq!(allowed as u64, MOST_SAVED);
    }

    #[test]
    fn without_share_and_minimum_there_is_no_retry() {
        let budget = budget(0, 0);
        assert!(!budget.enter().retry());
    }

    /// A request that begins, asks for a retry or ends.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Begin,
        Retry(usize),
        End(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Begin),
            4 => any::<usize>().prop_map(Step::Retry),
            2 => any::<usize>().prop_map(Step::End),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        /// Against a model that keeps the balance as it is told: payments, capped, minus retries.
        #[test]
        fn both_bounds_hold(steps in steps(), share in 0_u32..=100, min in 0_u32..6) {
            let budget = budget(share, min);
            let (share, min) = (u64::from(share), u64::from(min));
            let mut accounts: Vec<Account> = Vec::new();
            let mut balance = 0;
            for step in steps {
                match step {
                    Step::Begin => {
                        accounts.push(budget.enter());
                        balance += share;
                    }
                    Step::Retry(which) if !accounts.is_empty() => {
                        let requests = accounts.len() as u64;
                        let which = which % accounts.len();
                        let others = accounts.iter().enumerate().filter(|(i, a)| a.retrying && *i != which);
                        let room = (others.count() as u64) < min.max(requests * share / 100);
                        balance = balance.min(MOST_SAVED * RETRY);
                        let rich = balance >= RETRY;
                        let expected = room && (rich || requests * share < min * 100);
                        prop_assert_eq!(accounts[which].retry(), expected);
                        if expected && rich {
                            balance -= RETRY;
                        }
                    }
                    Step::End(which) if !accounts.is_empty() => {
                        let which = which % accounts.len();
                        drop(accounts.swap_remove(which));
                    }
                    Step::Retry(_) | Step::End(_) => {}
                }
                let retrying = accounts.iter().filter(|account| account.retrying).count();
                prop_assert_eq!(running(&budget), (accounts.len() as u64, retrying as u64));
            }
        }
    }

    const THREADS: usize = 8;
    const ROUNDS: usize = 5_000;

    #[test]
    fn eight_threads_together_get_the_share_and_no_more() {
        /// Held by each thread all the time, so that the minimum never applies.
        const HELD: usize = 5;
        let budget = budget(20, 3);
        let together = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let _held = [(); HELD].map(|()| budget.enter());
                    together.wait();
                    for _ in 0..ROUNDS {
                        let mut account = budget.enter();
                        account.retry();
                        account.retry();
                    }
                    together.wait();
                });
            }
        });
        assert_eq!(running(&budget), (0, 0));
        let counts = budget.counts();
        assert_eq!(counts.requests, (THREADS * (ROUNDS + HELD)) as u64);
        assert_eq!(
            counts.retries + counts.denied,
            (THREADS * ROUNDS * 2) as u64
        );
        // What was paid in was to be had, to the last whole retry.
        assert_eq!(counts.retries, counts.requests * 20 / 100);
    }

    #[test]
    fn eight_threads_never_run_more_than_the_minimum_at_a_time() {
        let budget = budget(0, 5);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let mut accounts = [budget.enter(), budget.enter()];
                        accounts[0].retry();
                        accounts[1].retry();
                        let (_, retries) = running(&budget);
                        assert!(retries <= 5, "{retries} retries at a time");
                    }
                });
            }
        });
        assert_eq!(running(&budget), (0, 0));
        assert!(budget.counts().retries >= 5);
    }
}
