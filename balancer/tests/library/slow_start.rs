//! Slow start: hosts that are new or recovered reach their full share gradually.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ballast_balancer::{ALGORITHMS, Balancer, BalancerError, Clock, Host, Options, Selection};

use super::simulation::{Service, Simulation, share};
use super::{build_with, by_weight, counts, host, hosts};

const WINDOW: Duration = Duration::from_secs(10);
const FLOOR: f64 = 0.1;
const BY_KEY: [&str; 4] = ["consistent_hash", "bounded", "maglev", "ip_hash"];

fn options() -> Options {
    Options::new().slow_start(WINDOW, FLOOR)
}

fn with_slow_start(name: &str, hosts: &[Arc<Host>], clock: &Clock) -> Balancer {
    let options = options().seed(1).clock(clock.clone());
    build_with(name, hosts.iter().cloned(), &options).expect("a balancer")
}

/// Runs `test` for each algorithm that supports slow start, and p2c with its other load.
fn for_each_algorithm(test: impl Fn(&str, Options)) {
    for info in ALGORITHMS {
        if !BY_KEY.contains(&info.name) {
            test(info.name, options());
        }
    }
    test("p2c(load=peak_ewma)", options());
}

#[test]
fn the_share_of_an_idle_host_rises_linearly() {
    for_each_algorithm(|name, options| {
        for weights in [[1, 1, 1, 1, 1], [2, 4, 1, 1, 2]] {
            for seconds in [0, 3, 5, 9, 10, 60] {
                let all = by_weight(&weights);
                let options = options.clone().seed(1).clock(Clock::manual());
                let balancer = build_with(name, all.iter().cloned(), &options);
                let balancer = balancer.expect("a balancer");
                let elapsed = Duration::from_secs(seconds);
                balancer
                    .begin_slow_start(all[1].id(), elapsed)
                    .expect("a member");
                let found = counts(&balancer, &all, 20_000)[1] as f64 / 20_000.0;
                let whole = f64::from(weights[1]) / f64::from(weights.iter().sum::<u32>());
                let expected = whole * (FLOOR + 0.09 * seconds as f64).min(1.0);
                let slack = 0.1;
                assert!(
                    (found - expected).abs() <= slack * expected + 0.005,
                    "{name}, {weights:?} after {seconds} s: {found} instead of {expected}"
                );
            }
        }
    });
}

#[test]
fn slow_start_ends_by_time_alone() {
    for_each_algorithm(|name, options| {
        let clock = Clock::manual();
        let all = hosts(4);
        let options = options.seed(1).clock(clock.clone());
        let balancer = build_with(name, all.iter().cloned(), &options).expect("a balancer");
        let id = all[2].id();
        assert_eq!(balancer.slow_start_elapsed(id), None, "{name}");
        balancer
            .begin_slow_start(id, Duration::from_secs(2))
            .expect("a member");
        assert_eq!(
            balancer.slow_start_elapsed(id),
            Some(Duration::from_secs(2)),
            "{name}"
        );
        clock.advance(Duration::from_secs(5));
        assert_eq!(
            balancer.slow_start_elapsed(id),
            Some(Duration::from_secs(7)),
            "{name}"
        );
        clock.advance(Duration::from_secs(3));
        assert_eq!(balancer.slow_start_elapsed(id), None, "{name}");
        let count = counts(&balancer, &all, 4_000)[2];
        assert!((850..=1_150).contains(&count), "{name}: {count}");
    });
}

#[test]
fn a_recovered_host_gets_at_most_twice_its_share_in_the_first_second() {
    for_each_algorithm(|name, options| {
        for (n, rate) in [
            (8, 40.0),
            (8, 400.0),
            (8, 2_000.0),
            (8, 5_000.0),
            (64, 16_000.0),
        ] {
            let mut pool = Simulation::new(name, &vec![Service::NORMAL; n], options.clone(), 1);
            let recovered = Arc::clone(&pool.hosts[3]);
            let fair = 1.0 / n as f64;
            pool.balancer.remove_host(recovered.id()).expect("a member");
            pool.run(rate, Duration::from_secs(2));
            pool.balancer
                .add_host(Arc::clone(&recovered))
                .expect("no member");
            pool.balancer
                .begin_slow_start(recovered.id(), Duration::ZERO)
                .expect("a member");
            // With few requests, the share of one second depends on chance.
            let window = if rate < 1_000.0 { 3 } else { 1 };
            let first = pool.run(rate, Duration::from_secs(window));
            let found = share(&first, 3);
            assert!(
                found <= fair * 2.0,
                "{name}, {n} hosts, {rate} a second: {found} instead of {fair}"
            );
            pool.run(rate, Duration::from_secs(10));
            let found = share(
                &pool.run(
                    rate,
                    Duration::from_secs(60).min(Duration::from_secs_f64(40_000.0 / rate)),
                ),
                3,
            );
            assert!(
                (fair * 0.8..fair * 1.2).contains(&found),
                "{name}, {n} hosts, {rate} a second, in the end: {found} instead of {fair}"
            );
        }
    });
}

#[test]
fn a_single_host_in_slow_start_gets_all_requests() {
    for_each_algorithm(|name, options| {
        let all = hosts(2);
        let options = options.clock(Clock::manual());
        let balancer = build_with(name, all.iter().cloned(), &options).expect("a balancer");
        balancer
            .begin_slow_start(all[0].id(), Duration::ZERO)
            .expect("a member");
        balancer.remove_host(all[1].id()).expect("a member");
        let tried = [all[0].id().clone()];
        for _ in 0..100 {
            assert!(balancer.lease(&Selection::new()).is_ok(), "{name}");
            assert!(
                balancer.lease(&Selection::new().tried(&tried)).is_ok(),
                "{name}"
            );
        }
        // The same holds when all other hosts are full.
        let full = all[1].with_max_in_flight(NonZeroU64::new(1));
        balancer.add_host(Arc::new(full)).expect("no member");
        let lease = balancer.lease_of(all[1].id()).expect("capacity for one");
        for _ in 0..100 {
            let chosen = balancer.lease(&Selection::new()).expect("a host");
            assert_eq!(chosen.host().id(), all[0].id(), "{name}");
        }
        drop(lease);
        assert!(all.iter().all(|host| host.in_flight() == 0), "{name}");
    });
}

#[test]
fn hosts_that_are_all_in_slow_start_share_equally() {
    for_each_algorithm(|name, options| {
        let all = hosts(5);
        let options = options.seed(1).clock(Clock::manual());
        let balancer = build_with(name, all.iter().cloned(), &options).expect("a balancer");
        for host in &all {
            balancer
                .begin_slow_start(host.id(), Duration::ZERO)
                .expect("a member");
        }
        for count in counts(&balancer, &all, 10_000) {
            assert!((1_800..=2_200).contains(&count), "{name}: {count}");
        }
    });
}

#[test]
fn hashing_algorithms_have_no_slow_start() {
    for name in BY_KEY {
        let clock = Clock::manual();
        let all = hosts(4);
        let (balancer, plain) = (
            with_slow_start(name, &all, &clock),
            super::seeded(name, &all, 1),
        );
        balancer
            .begin_slow_start(all[2].id(), Duration::ZERO)
            .expect("a member");
        assert_eq!(balancer.slow_start_elapsed(all[2].id()), None, "{name}");
        for key in 0..500u32 {
            let key = key.to_be_bytes();
            let request = Selection::new().key(&key).client(key.into());
            assert_eq!(
                super::pick(&balancer, request),
                super::pick(&plain, request)
            );
        }
    }
}

#[test]
fn slow_start_needs_a_member_and_ends_with_its_removal() {
    for info in ALGORITHMS {
        let all = hosts(2);
        let balancer = with_slow_start(info.name, &all, &Clock::manual());
        let unknown = host(9);
        assert_eq!(
            balancer.begin_slow_start(unknown.id(), Duration::ZERO),
            Err(BalancerError::UnknownHost(unknown.id().clone()))
        );
        assert_eq!(balancer.slow_start_elapsed(unknown.id()), None);
        balancer
            .begin_slow_start(all[0].id(), Duration::ZERO)
            .expect("a member");
        balancer.remove_host(all[0].id()).expect("a member");
        balancer.add_host(Arc::clone(&all[0])).expect("no member");
        assert_eq!(
            balancer.slow_start_elapsed(all[0].id()),
            None,
            "{}",
            info.name
        );
        // Without a window, slow start has no effect.
        let plain = super::seeded(info.name, &all, 1);
        plain
            .begin_slow_start(all[0].id(), Duration::ZERO)
            .expect("a member");
        assert_eq!(plain.slow_start_elapsed(all[0].id()), None, "{}", info.name);
    }
}

#[test]
fn hosts_skipped_by_slow_start_are_not_counted() {
    for_each_algorithm(|name, options| {
        let limit = NonZeroU64::new(4);
        let limited = |host: &Arc<Host>| Arc::new(host.with_max_in_flight(limit));
        let all: Vec<Arc<Host>> = hosts(70).iter().map(limited).collect();
        let balancer = build_with(name, all.iter().cloned(), &options).expect("a balancer");
        for host in &all[..60] {
            balancer
                .begin_slow_start(host.id(), Duration::ZERO)
                .expect("a member");
        }
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut leases = VecDeque::new();
                    for _ in 0..5_000 {
                        leases.extend(balancer.lease(&Selection::new()));
                        if leases.len() > 30 {
                            drop(leases.pop_front());
                        }
                        assert!(all.iter().all(|host| host.in_flight() <= 4), "{name}");
                    }
                });
            }
        });
        assert!(all.iter().all(|host| host.in_flight() == 0), "{name}");
    });
}

#[test]
fn the_floor_is_above_0_and_at_most_1() {
    for floor in [0.0, -0.1, 1.01, f64::NAN, f64::INFINITY] {
        let options = Options::new().slow_start(WINDOW, floor);
        let error = build_with("p2c", hosts(1), &options).expect_err("no such floor");
        assert!(
            matches!(error, BalancerError::InvalidOption { .. }),
            "{error}"
        );
    }
    for (window, floor) in [
        (WINDOW, 1.0),
        (Duration::ZERO, 0.1),
        (Duration::MAX, 1e-300),
    ] {
        let options = Options::new().slow_start(window, floor);
        let balancer = build_with("least_load", hosts(2), &options).expect("a balancer");
        balancer
            .begin_slow_start(host(0).id(), Duration::ZERO)
            .expect("a member");
        assert!(balancer.lease(&Selection::new()).is_ok());
    }
}
