use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn budget(share: u32, min: u32) -> Arc<RetryBudget> {
    Arc::new(RetryBudget::new(
        &Retries {
            attempts: 2,
            statuses: Vec::new(),
            budget: share,
            min,
            deadline: Duration::from_secs(1),
        },
        Arc::default(),
    ))
}

fn running(budget: &RetryBudget) -> (u64, u64) {
    let running = budget.running.load(Ordering::SeqCst);
    (running % FREE_RETRY, running / FREE_RETRY)
}

fn requests(budget: &RetryBudget) -> u64 {
    budget.requests.load(Ordering::SeqCst)
}

fn denied(budget: &RetryBudget) -> u64 {
    budget.counters.totals().denied_retries
}

/// How many of `handles` get a retry.
fn allowed(handles: &mut [RetryHandle]) -> u64 {
    handles
        .iter_mut()
        .map(|handle| u64::from(handle.retry()))
        .sum()
}

fn begin_requests(budget: &Arc<RetryBudget>, requests: usize) -> Vec<RetryHandle> {
    (0..requests).map(|_| budget.begin_request()).collect()
}

#[test]
fn an_idle_pool_always_has_its_minimum() {
    let budget = budget(0, 3);
    for _ in 0..100 {
        let mut handles = begin_requests(&budget, 4);
        assert_eq!(allowed(&mut handles), 3);
        assert!(handles[0].retry(), "a second retry in place of the first");
    }
    assert_eq!(running(&budget), (0, 0));
    assert_eq!((requests(&budget), denied(&budget)), (400, 100));
}

#[test]
fn a_busy_pool_has_exactly_its_share() {
    let budget = budget(20, 3);
    let mut handles = begin_requests(&budget, 100);
    let total: u64 = (0..3).map(|_| allowed(&mut handles)).sum();
    assert_eq!(total, 20);
    // After most of its requests have ended, the minimum applies.
    handles.truncate(14);
    assert_eq!(allowed(&mut handles), 3);
}

#[test]
fn the_saved_balance_is_bounded() {
    let budget = budget(20, 0);
    drop(begin_requests(&budget, 10_000));
    let mut few = begin_requests(&budget, 50);
    let total: u64 = (0..10).map(|_| allowed(&mut few)).sum();
    assert_eq!(total, MAX_SAVED_RETRIES);
    drop(begin_requests(&budget, 10_000));
    let mut many = begin_requests(&budget, 500);
    assert_eq!(allowed(&mut many), 500, "each of them once");
    assert_eq!(
        allowed(&mut many),
        50,
        "the retries of the fifty earlier requests"
    );
}

#[test]
fn a_balance_carries_over_to_another_budget() {
    let (before, next) = (budget(20, 0), budget(50, 0));
    drop(begin_requests(&before, 50));
    assert_eq!(before.balance(), 10.0);
    next.grant(before.balance());
    assert_eq!(next.balance(), 10.0);
    next.grant(5.0);
    assert_eq!(next.balance(), 10.0, "only once");
    let mut handles = begin_requests(&next, 1);
    let total: u64 = (0..20).map(|_| allowed(&mut handles)).sum();
    assert_eq!(total, 10);
    let capped = budget(20, 0);
    capped.grant(f64::MAX);
    assert_eq!(capped.balance(), MAX_SAVED_RETRIES as f64);
}

#[test]
fn without_share_and_minimum_there_is_no_retry() {
    let budget = budget(0, 0);
    assert!(!budget.begin_request().retry());
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
    /// Against a model that keeps the balance as documented: deposits, capped, minus retries.
    #[test]
    fn both_bounds_hold(steps in steps(), share in 0_u32..=100, min in 0_u32..6) {
        let budget = budget(share, min);
        let (share, min) = (u64::from(share), u64::from(min));
        let mut handles: Vec<RetryHandle> = Vec::new();
        let (mut balance, mut paid) = (0, 0);
        for step in steps {
            match step {
                Step::Begin => {
                    handles.push(budget.begin_request());
                    balance += share;
                }
                Step::Retry(which) if !handles.is_empty() => {
                    let requests = handles.len() as u64;
                    let which = which % handles.len();
                    balance = balance.min(requests.max(MAX_SAVED_RETRIES) * RETRY);
                    let can_pay = balance >= RETRY;
                    let others = handles.iter().enumerate().filter(|(i, a)| a.free && *i != which);
                    let free = (others.count() as u64) < min && requests * share < min * 100;
                    prop_assert_eq!(handles[which].retry(), can_pay || free);
                    prop_assert_eq!(handles[which].free, !can_pay && free);
                    if can_pay {
                        balance -= RETRY;
                        paid += 1;
                    }
                }
                Step::End(which) if !handles.is_empty() => {
                    let which = which % handles.len();
                    drop(handles.swap_remove(which));
                }
                Step::Retry(_) | Step::End(_) => {}
            }
            let free = handles.iter().filter(|handle| handle.free).count() as u64;
            prop_assert_eq!(running(&budget), (handles.len() as u64, free));
            prop_assert!(free <= min);
            prop_assert!(paid * 100 <= requests(&budget) * share);
        }
    }
}

const THREADS: usize = 8;
const ROUNDS: usize = 5_000;

#[test]
fn eight_threads_together_get_exactly_the_share() {
    /// Held by each thread all the time, so that the minimum never applies.
    const HELD: usize = 5;
    let (budget, retries) = (budget(20, 3), AtomicU64::new(0));
    let together = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let _held = [(); HELD].map(|()| budget.begin_request());
                together.wait();
                for _ in 0..ROUNDS {
                    let mut handle = budget.begin_request();
                    for _ in 0..2 {
                        retries.fetch_add(handle.retry().into(), Ordering::Relaxed);
                    }
                }
                together.wait();
            });
        }
    });
    assert_eq!(running(&budget), (0, 0));
    let (requests, retries) = (requests(&budget), retries.into_inner());
    assert_eq!(requests, (THREADS * (ROUNDS + HELD)) as u64);
    assert_eq!(retries + denied(&budget), (THREADS * ROUNDS * 2) as u64);
    // All deposits were available, to the last whole retry.
    assert_eq!(retries, requests * 20 / 100);
}

#[test]
fn eight_threads_never_run_more_than_the_minimum_at_a_time() {
    let budget = budget(0, 5);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let mut handles = [budget.begin_request(), budget.begin_request()];
                    handles[0].retry();
                    handles[1].retry();
                    let (_, retries) = running(&budget);
                    assert!(retries <= 5, "{retries} retries at a time");
                }
            });
        }
    });
    assert_eq!(running(&budget), (0, 0));
    let asked = (THREADS * ROUNDS * 2) as u64;
    assert!(asked - denied(&budget) >= 5);
}
