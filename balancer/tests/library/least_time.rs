//! The host that will respond first, and none that starves.

use std::time::Duration;

use ballast_balancer::Options;

use super::simulation::{Service, Simulation, quantile, share};

fn service(ms: u64) -> Service {
    Service {
        mean: Duration::from_millis(ms),
        ..Service::NORMAL
    }
}

/// A simulation of hosts with these mean service times in ms, warmed up at `rate`.
fn warm(times: &[u64], rate: f64, seed: u64) -> Simulation {
    let services: Vec<Service> = times.iter().map(|&ms| service(ms)).collect();
    let mut simulation = Simulation::new("least_time", &services, Options::new(), seed);
    simulation.run(rate, Duration::from_secs(5));
    simulation
}

#[test]
fn hardly_loaded_hosts_get_requests_by_their_speed() {
    for seed in 0..3 {
        let mut simulation = warm(&[5, 10, 20], 20.0, seed);
        let done = simulation.run(20.0, Duration::from_secs(400));
        // 4 : 2 : 1.
        for (host, expected) in [(0, 0.571), (1, 0.286), (2, 0.143)] {
            let found = share(&done, host);
            assert!(
                (found - expected).abs() < 0.1,
                "seed {seed}, host {host}: {found}"
            );
        }
    }
}

#[test]
fn no_host_starves_however_slow_it_is() {
    for rate in [50.0, 500.0, 2_000.0] {
        let mut simulation = warm(&[10, 10, 10, 10, 10, 10, 10, 2_000], rate, 1);
        let done = simulation.run(rate, Duration::from_secs(60));
        let slow = share(&done, 7);
        assert!((0.0001..0.03).contains(&slow), "{rate} a second: {slow}");
    }
}

#[test]
fn a_host_that_was_slow_regains_its_share() {
    let mut simulation = warm(&[10, 10, 10, 200], 800.0, 1);
    simulation.services[3] = service(10);
    simulation.run(800.0, Duration::from_secs(30));
    let done = simulation.run(800.0, Duration::from_secs(20));
    let recovered = share(&done, 3);
    assert!(recovered > 0.2, "{recovered} of 0.25");
}

#[test]
fn a_slow_host_hardly_affects_latency() {
    for seed in 0..3 {
        let times = [10, 10, 10, 100, 10, 10, 10, 10];
        let mut simulation = warm(&times, 2_000.0, seed);
        let done = simulation.run(2_000.0, Duration::from_secs(20));
        let p99 = quantile(&done, 0.99);
        assert!(p99 < Duration::from_millis(60), "seed {seed}: {p99:?}");
    }
}

#[test]
fn a_host_that_fails_fast_does_not_look_fast() {
    let services = [
        Service::NORMAL,
        Service::NORMAL,
        Service::FAILS_AT_ONCE,
        Service::NORMAL,
    ];
    let mut simulation = Simulation::new("least_time", &services, Options::new(), 1);
    simulation.run(800.0, Duration::from_secs(5));
    let done = simulation.run(800.0, Duration::from_secs(20));
    let failed = share(&done, 2);
    assert!(failed < 0.02, "{failed}");
}
