//! One host of eight is slow or fails: what clients see with the algorithms that weigh loads.

use std::time::Duration;

use ballast::balancer::{Clock, Lease, Options, Selection, build_with};

use super::hosts;
use super::simulation::{Service, Simulation, quantile, share};

const WEIGHING: [&str; 2] = ["p2c", "least_load"];
const SEEDS: std::ops::Range<u64> = 0..5;

/// Which of the eight hosts is the odd one.
const ODD: usize = 3;

/// A pool of eight, warmed up for 5 s at `rate`, in which one host is `odd` from the beginning.
fn pool_with(odd: Service, name: &str, rate: f64, seed: u64) -> Simulation {
    let mut services = [Service::USUAL; 8];
    services[ODD] = odd;
    let mut pool = Simulation::new(name, &services, Options::new(), seed);
    pool.run(rate, Duration::from_secs(5));
    pool
}

#[test]
fn clients_do_not_notice_a_slow_host_and_it_is_not_forgotten() {
    for name in WEIGHING {
        for seed in SEEDS {
            let mut pool = pool_with(Service::TEN_TIMES_SLOWER, name, 2_000.0, seed);
            let done = pool.run(2_000.0, Duration::from_secs(20));
            let (p99, slow) = (quantile(&done, 0.99), share(&done, ODD));
            assert!(
                p99 <= Duration::from_millis(55),
                "{name}, seed {seed}: {p99:?}"
            );
            assert!(
                (0.002..0.01).contains(&slow),
                "{name}, seed {seed}: it got {slow}"
            );
        }
    }
}

#[test]
fn a_host_that_was_slow_has_its_share_again_within_seconds() {
    for name in WEIGHING {
        let mut pool = pool_with(Service::TEN_TIMES_SLOWER, name, 2_000.0, 1);
        pool.services[ODD] = Service::USUAL;
        pool.run(2_000.0, Duration::from_secs(5));
        let done = pool.run(2_000.0, Duration::from_secs(5));
        let recovered = share(&done, ODD);
        assert!(recovered > 0.1, "{name}: {recovered} of 0.125");
    }
}

#[test]
fn a_host_that_fails_fast_does_not_look_idle() {
    for name in WEIGHING {
        for seed in SEEDS {
            for rate in [200.0, 2_000.0, 4_000.0] {
                let mut pool = pool_with(Service::FAILS_AT_ONCE, name, rate, seed);
                let done = pool.run(rate, Duration::from_secs(10));
                let failed = share(&done, ODD);
                assert!(failed < 0.005, "{name}, {rate} a second: {failed} failed");
                assert!(failed > 0.0, "{name}, {rate} a second: it was given up");
            }
        }
    }
}

#[test]
fn a_host_that_begins_to_fail_is_left_within_the_first_second() {
    for name in WEIGHING {
        let mut pool = pool_with(Service::USUAL, name, 2_000.0, 1);
        pool.services[ODD] = Service::FAILS_AT_ONCE;
        let first = pool.run(2_000.0, Duration::from_secs(1));
        let failed = share(&first, ODD);
        assert!(failed < 0.02, "{name}: {failed} failed");
    }
}

#[test]
fn a_host_that_failed_has_its_share_again_within_seconds() {
    for name in WEIGHING {
        for rate in [200.0, 2_000.0, 4_000.0] {
            let mut pool = pool_with(Service::FAILS_AT_ONCE, name, rate, 1);
            pool.services[ODD] = Service::USUAL;
            pool.run(rate, Duration::from_secs(8));
            let done = pool.run(rate, Duration::from_secs(10));
            let recovered = share(&done, ODD);
            assert!(recovered > 0.1, "{name}, {rate} a second: {recovered}");
        }
    }
}

/// The requests on two hosts after five, if the first host has failed one `ago` before them.
fn failed_once(name: &str, ago: Duration, seed: u64) -> Vec<u64> {
    let all = hosts(2);
    let clock = Clock::manual();
    let options = Options::new().seed(seed).clock(clock.clone());
    let balancer = build_with(name, all.clone(), &options).expect("a balancer");
    let lease = balancer.lease_of(all[0].id()).expect("a member");
    lease.observe(Duration::from_millis(1), false);
    drop(lease);
    clock.advance(ago);
    let leases: Vec<Lease> = (0..5)
        .map(|_| balancer.lease(&Selection::new()).expect("a host"))
        .collect();
    let loads = all.iter().map(|host| host.in_flight()).collect();
    drop(leases);
    loads
}

#[test]
fn a_failure_counts_like_a_request_in_flight_until_it_has_faded() {
    for name in WEIGHING {
        let first = |seconds, seed| failed_once(name, Duration::from_secs(seconds), seed)[0];
        // Loads 1 and 0: the first request goes to the other host, and an even number more keeps them level.
        assert!(SEEDS.clone().all(|seed| first(0, seed) == 2), "{name}");
        // Less than a request, so it decides each tie in favour of the other host.
        assert!(SEEDS.clone().all(|seed| first(2, seed) == 2), "{name}");
        // The penalty is over: chance decides.
        let firsts: Vec<u64> = (0..20).map(|seed| first(4, seed)).collect();
        assert!(
            firsts.contains(&2) && firsts.contains(&3),
            "{name}: {firsts:?}"
        );
    }
}

#[test]
fn failures_are_brought_along_into_another_balancer() {
    for name in WEIGHING {
        let all = hosts(2);
        let clock = Clock::manual();
        let options = Options::new().seed(1).clock(clock.clone());
        let build = || build_with(name, all.clone(), &options).expect("a balancer");
        let before = build();
        for _ in 0..5 {
            let lease = before.lease_of(all[0].id()).expect("a member");
            lease.observe(Duration::from_millis(1), false);
        }
        let after = build();
        let leases: Vec<Lease> = (0..5)
            .map(|_| after.lease(&Selection::new()).expect("a host"))
            .collect();
        assert_eq!(all[1].in_flight(), 5, "{name}");
        drop(leases);
    }
}

#[test]
fn answers_that_take_no_time_are_no_slowness() {
    for name in WEIGHING {
        let all = hosts(3);
        let balancer = super::seeded(name, &all, 1);
        for _ in 0..300 {
            let lease = balancer.lease(&Selection::new()).expect("a host");
            lease.observe(Duration::ZERO, true);
        }
        let leases: Vec<Lease> = (0..30)
            .map(|_| balancer.lease(&Selection::new()).expect("a host"))
            .collect();
        assert!(all.iter().all(|host| host.in_flight() >= 8), "{all:?}");
        drop(leases);
    }
}
