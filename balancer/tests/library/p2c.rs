use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use ballast_balancer::{Balancer, Clock, Host, Lease, Options, Selection};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{SEEDS, build_with, by_weight, hosts, outcome, seeded};

/// Places `m` requests that never end; returns the highest and the lowest load.
fn fill(n: usize, m: usize, seed: u64) -> (u64, u64) {
    let all = hosts(n);
    let balancer = seeded("p2c", &all, seed);
    let leases: Vec<Lease> = (0..m)
        .map(|_| balancer.lease(&Selection::new()).expect("a host"))
        .collect();
    let loads = || all.iter().map(|host| host.in_flight());
    let found = (loads().max().unwrap_or(0), loads().min().unwrap_or(0));
    drop(leases);
    found
}

#[test]
fn the_maximum_load_stays_within_the_theoretical_bound() {
    for (n, m, most) in [
        (10, 10, 3),
        (10, 1_000, 103),
        (100, 100, 4),
        (100, 10_000, 104),
        (1_000, 1_000, 5),
    ] {
        for seed in SEEDS {
            let (found, least) = fill(n, m, seed);
            assert!(found <= most, "n = {n}, m = {m}, seed {seed}: {found}");
            assert!((n, m) != (10, 1_000) || least >= 94, "seed {seed}: {least}");
        }
    }
}

#[test]
fn loads_follow_the_weights() {
    let weights = [1, 2, 3, 4];
    let all = by_weight(&weights);
    let balancer = seeded("p2c", &all, 3);
    let leases: Vec<Lease> = (0..1_000)
        .map(|_| balancer.lease(&Selection::new()).expect("a host"))
        .collect();
    for (host, weight) in all.iter().zip(weights) {
        let expected = 100 * u64::from(weight);
        assert!(host.in_flight().abs_diff(expected) <= 10, "{host:?}");
    }
    drop(leases);
}

#[test]
fn the_key_has_no_influence_on_the_pair() {
    let all = hosts(10);
    let balancer = seeded("p2c", &all, 3);
    let request = Selection::new()
        .key(b"one client")
        .client([192, 0, 2, 1].into());
    let leases: Vec<Lease> = (0..100)
        .map(|_| balancer.lease(&request).expect("a host"))
        .collect();
    assert!(all.iter().all(|host| host.in_flight() >= 8), "{all:?}");
    drop(leases);
}

/// A balancer with `load: peak_ewma` over three hosts that have all responded once in 10 ms.
fn peak_ewma(clock: &Clock) -> (Vec<Arc<Host>>, Balancer) {
    let all = hosts(3);
    let options = Options::new().seed(1).clock(clock.clone());
    let balancer =
        build_with("p2c(load=peak_ewma)", all.iter().cloned(), &options).expect("a balancer");
    while !all
        .iter()
        .all(|host| send_request(&balancer, host, clock, 10, true))
    {}
    (all, balancer)
}

thread_local! {
    static JITTER: RefCell<SmallRng> = RefCell::new(SmallRng::seed_from_u64(1));
}

/// Sends one request. If it went to `host`, its latency is the given one, otherwise 10 ms; both vary by up to a fifth,
/// as with real hosts. Returns whether it went to `host`.
fn send_request(
    balancer: &Balancer,
    host: &Arc<Host>,
    clock: &Clock,
    ms: u64,
    succeeded: bool,
) -> bool {
    let lease = balancer.lease(&Selection::new()).expect("a host");
    let is_chosen = lease.host().id() == host.id();
    clock.advance(Duration::from_millis(10));
    let (ms, succeeded) = if is_chosen {
        (ms, succeeded)
    } else {
        (10, true)
    };
    let jitter = JITTER.with_borrow_mut(|rng| rng.gen_range(0.8..1.2));
    lease.finish(outcome(
        Duration::from_millis(ms).mul_f64(jitter),
        succeeded,
    ));
    is_chosen
}

/// How many of `m` requests, one every 10 ms, go to `host`.
fn share(
    balancer: &Balancer,
    host: &Arc<Host>,
    clock: &Clock,
    ms: u64,
    succeeded: bool,
    m: usize,
) -> usize {
    (0..m)
        .filter(|_| send_request(balancer, host, clock, ms, succeeded))
        .count()
}

#[test]
fn peak_ewma_sends_a_slow_host_a_few_requests() {
    let clock = Clock::manual();
    let (all, balancer) = peak_ewma(&clock);
    // 60 s of 100 requests per second: one every 3 s is forced.
    let slow = share(&balancer, &all[1], &clock, 100, true, 6_000);
    assert!((10..=30).contains(&slow), "{slow}");
}

#[test]
fn peak_ewma_avoids_a_host_that_fails_fast() {
    let clock = Clock::manual();
    let (all, balancer) = peak_ewma(&clock);
    let failing = share(&balancer, &all[1], &clock, 1, false, 6_000);
    assert!((10..=60).contains(&failing), "{failing}");
}

#[test]
fn peak_ewma_returns_to_a_recovered_host() {
    let clock = Clock::manual();
    let (all, balancer) = peak_ewma(&clock);
    share(&balancer, &all[1], &clock, 100, false, 1_000);
    share(&balancer, &all[1], &clock, 10, true, 1_000);
    let recovered = share(&balancer, &all[1], &clock, 10, true, 3_000);
    assert!((700..=1_300).contains(&recovered), "{recovered}");
}

#[test]
fn peak_ewma_sends_a_new_host_one_request_until_it_responds() {
    let clock = Clock::manual();
    let (_, balancer) = peak_ewma(&clock);
    let new_host = super::host(9);
    balancer.add_host(Arc::clone(&new_host)).expect("no member");
    let leases: Vec<Lease> = (0..60)
        .map(|_| balancer.lease(&Selection::new()).expect("a host"))
        .collect();
    assert_eq!(new_host.in_flight(), 1);
    drop(leases);
}
