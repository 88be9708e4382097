//! One of eight hosts is slow or fails: what clients see with the algorithms that compare loads.

use std::time::Duration;

use ballast_balancer::{Clock, Lease, Options, Outcome, Selection};

use super::simulation::{Service, Simulation, quantile, share};
use super::{build_with, hosts};

const LOAD_AWARE: [&str; 2] = ["p2c", "least_load"];
const SEEDS: std::ops::Range<u64> = 0..5;

/// The position of the faulty host.
const FAULTY: usize = 3;

/// A pool of eight, warmed up for 5 s at `rate`, in which one host behaves as `faulty` from the beginning.
fn pool_with(faulty: Service, name: &str, rate: f64, seed: u64) -> Simulation {
    let mut services = [Service::NORMAL; 8];
    services[FAULTY] = faulty;
    let mut pool = Simulation::new(name, &services, Options::new(), seed);
    pool.run(rate, Duration::from_secs(5));
    pool
}

#[test]
fn a_slow_host_hardly_affects_latency_and_still_gets_some_requests() {
    for name in LOAD_AWARE {
        for seed in SEEDS {
            let mut pool = pool_with(Service::TEN_TIMES_SLOWER, name, 2_000.0, seed);
            let done = pool.run(2_000.0, Duration::from_secs(20));
            let (p99, slow) = (quantile(&done, 0.99), share(&done, FAULTY));
            assert!(
                p99 <= Duration::from_millis(55),
                "{name}, seed {seed}: {p99:?}"
            );
            assert!(
                (0.002..0.01).contains(&slow),
                "{name}, seed {seed}: its share is {slow}"
            );
        }
    }
}

#[test]
fn a_host_that_was_slow_regains_its_share_within_seconds() {
    for name in LOAD_AWARE {
        let mut pool = pool_with(Service::TEN_TIMES_SLOWER, name, 2_000.0, 1);
        pool.services[FAULTY] = Service::NORMAL;
        pool.run(2_000.0, Duration::from_secs(5));
        let done = pool.run(2_000.0, Duration::from_secs(5));
        let recovered = share(&done, FAULTY);
        assert!(recovered > 0.1, "{name}: {recovered} of 0.125");
    }
}

#[test]
fn a_host_that_fails_fast_does_not_look_idle() {
    for name in LOAD_AWARE {
        for seed in SEEDS {
            for rate in [200.0, 2_000.0, 4_000.0] {
                let mut pool = pool_with(Service::FAILS_AT_ONCE, name, rate, seed);
                let done = pool.run(rate, Duration::from_secs(10));
                let failed = share(&done, FAULTY);
                assert!(failed < 0.005, "{name}, {rate} a second: {failed} failed");
                assert!(
                    failed > 0.0,
                    "{name}, {rate} a second: the host gets no requests"
                );
            }
        }
    }
}

#[test]
fn a_host_that_begins_to_fail_is_avoided_within_a_second() {
    for name in LOAD_AWARE {
        let mut pool = pool_with(Service::NORMAL, name, 2_000.0, 1);
        pool.services[FAULTY] = Service::FAILS_AT_ONCE;
        let first = pool.run(2_000.0, Duration::from_secs(1));
        let failed = share(&first, FAULTY);
        assert!(failed < 0.02, "{name}: {failed} failed");
    }
}

#[test]
fn a_host_that_failed_regains_its_share_within_seconds() {
    for name in LOAD_AWARE {
        for rate in [200.0, 2_000.0, 4_000.0] {
            let mut pool = pool_with(Service::FAILS_AT_ONCE, name, rate, 1);
            pool.services[FAULTY] = Service::NORMAL;
            pool.run(rate, Duration::from_secs(8));
            let done = pool.run(rate, Duration::from_secs(10));
            let recovered = share(&done, FAULTY);
            assert!(recovered > 0.1, "{name}, {rate} a second: {recovered}");
        }
    }
}

/// How five requests spread over two hosts, of which the first failed a request `ago` before them.
fn spread_after_failure(name: &str, ago: Duration, seed: u64) -> Vec<u64> {
    let all = hosts(2);
    let clock = Clock::manual();
    let options = Options::new().seed(seed).clock(clock.clone());
    let balancer = build_with(name, all.clone(), &options).expect("a balancer");
    let lease = balancer.lease_of(all[0].id()).expect("a member");
    lease.finish(Outcome::failure(Duration::from_millis(1)));
    clock.advance(ago);
    let leases: Vec<Lease> = (0..5)
        .map(|_| balancer.lease(&Selection::new()).expect("a host"))
        .collect();
    let loads = all.iter().map(|host| host.in_flight()).collect();
    drop(leases);
    loads
}

#[test]
fn a_failure_counts_as_a_request_in_flight_until_it_decays() {
    for name in LOAD_AWARE {
        let first =
            |seconds, seed| spread_after_failure(name, Duration::from_secs(seconds), seed)[0];
        // Loads 1 and 0: the first request goes to the other host, and an even number more keeps them level.
        assert!(SEEDS.clone().all(|seed| first(0, seed) == 2), "{name}");
        // Less than a request, so it decides each tie in favour of the other host.
        assert!(SEEDS.clone().all(|seed| first(2, seed) == 2), "{name}");
        // The penalty has ended: the choice is random.
        let firsts: Vec<u64> = (0..20).map(|seed| first(4, seed)).collect();
        assert!(
            firsts.contains(&2) && firsts.contains(&3),
            "{name}: {firsts:?}"
        );
    }
}

#[test]
fn failures_carry_over_to_another_balancer() {
    for name in LOAD_AWARE {
        let all = hosts(2);
        let clock = Clock::manual();
        let options = Options::new().seed(1).clock(clock.clone());
        let build = || build_with(name, all.clone(), &options).expect("a balancer");
        let before = build();
        for _ in 0..5 {
            let lease = before.lease_of(all[0].id()).expect("a member");
            lease.finish(Outcome::failure(Duration::from_millis(1)));
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
fn zero_latencies_do_not_make_a_host_slow() {
    for name in LOAD_AWARE {
        let all = hosts(3);
        let balancer = super::seeded(name, &all, 1);
        for _ in 0..300 {
            let lease = balancer.lease(&Selection::new()).expect("a host");
            lease.finish(Outcome::success(Duration::ZERO));
        }
        let leases: Vec<Lease> = (0..30)
            .map(|_| balancer.lease(&Selection::new()).expect("a host"))
            .collect();
        assert!(all.iter().all(|host| host.in_flight() >= 8), "{all:?}");
        drop(leases);
    }
}
