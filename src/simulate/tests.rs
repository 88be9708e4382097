//! The simulation against closed forms, and against what was measured of the real thing.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::{Config, Pool};

/// A pool of hosts 10.0.0.1:80 and so on, with further keys.
pub(super) fn pool(hosts: usize, keys: &str) -> Pool {
    let hosts = (0..hosts).map(|host| format!("\"10.0.{}.{}:80\"", host / 250, host % 250 + 1));
    let hosts = Vec::from_iter(hosts).join(", ");
    let text = format!(
        "listeners: [\"127.0.0.1:80\"]\npools:\n  web:\n    hosts: [{hosts}]\n    {keys}\n"
    );
    let config = Config::parse(&text, Path::new("test.yaml"));
    let mut pools = config.expect("a valid file").pools;
    pools.remove(0)
}

/// A thousand requests a second for 20 seconds; services of 10 ms, eight at once.
pub(super) fn settings() -> Settings {
    Settings {
        rate: 1_000.0,
        length: RunLength::Requests(20_000),
        warm_up: None,
        service_time: Duration::from_millis(10),
        service: ServiceDistribution::Exponential,
        concurrency: 8,
        keys: 1_000,
        skew: 0.0,
        slow: Vec::new(),
        failing: Vec::new(),
        seed: 1,
        algorithms: Vec::new(),
    }
}

fn run(pool: &Pool, settings: Settings) -> Report {
    let scenario = Scenario::new(pool, settings).expect("the scenario fits");
    simulate(&scenario).expect("the algorithms take the hosts")
}

/// The report of all algorithms for a short run on so many hosts.
pub(super) fn report(keys: &str, hosts: usize) -> Report {
    let length = RunLength::Requests(500);
    run(
        &pool(hosts, keys),
        Settings {
            length,
            ..settings()
        },
    )
}

fn only(algorithms: &[&str]) -> Vec<String> {
    algorithms.iter().map(|name| (*name).to_owned()).collect()
}

#[track_caller]
fn assert_near(value: f64, expected: f64, tolerance: f64, what: &str) {
    let error = value / expected - 1.0;
    assert!(
        error.abs() <= tolerance,
        "{what}: {value}, expected {expected} ± {tolerance}"
    );
}

fn mean(report: &Report) -> Vec<f64> {
    let latencies = report.algorithms.iter().filter_map(|one| one.latency);
    latencies.map(|latency| latency.mean_ms).collect()
}

/// The probability that all of `servers` are busy for a load of `offered` Erlangs if requests that find all busy are lost.
fn erlang_b(servers: u32, offered: f64) -> f64 {
    (1..=servers).fold(1.0, |blocked, n| {
        offered * blocked / (f64::from(n) + offered * blocked)
    })
}

/// The probability that a request has to wait, where all may.
fn erlang_c(servers: u32, offered: f64) -> f64 {
    let blocked = erlang_b(servers, offered);
    let load = offered / f64::from(servers);
    blocked / (1.0 - load * (1.0 - blocked))
}

#[test]
fn one_host_is_the_queue_of_erlang() {
    for (concurrency, load) in [(1, 0.5), (4, 0.8), (8, 0.9)] {
        let offered = f64::from(concurrency) * load;
        let settings = Settings {
            rate: offered * 100.0,
            length: RunLength::Requests(100_000),
            concurrency,
            algorithms: only(&["random"]),
            ..settings()
        };
        let report = run(&pool(1, ""), settings);
        assert_near(report.load, load, 1e-9, "load");
        let waiting = erlang_c(concurrency, offered);
        let queue = waiting * load / (1.0 - load);
        let what = format!("{concurrency} servers at {load}");
        // Waiting and service in services of 10 ms; the queue by Little's law.
        let expected = 10.0 * (1.0 + queue / offered);
        assert_near(mean(&report)[0], expected, 0.05, &what);
        let host = &report.algorithms[0].hosts[0];
        assert_near(host.mean_queue, queue, 0.15, &what);
        assert_near(host.utilization, load, 0.02, &what);
        assert_eq!((host.share, host.failed), (1.0, 0));
    }
}

#[test]
fn services_of_equal_length_halve_the_queue() {
    // Pollaczek and Khinchine: load / 2 (1 - load) services of waiting.
    let settings = Settings {
        rate: 80.0,
        length: RunLength::Requests(100_000),
        service: ServiceDistribution::Deterministic,
        concurrency: 1,
        algorithms: only(&["random"]),
        ..settings()
    };
    let report = run(&pool(1, ""), settings);
    assert_near(mean(&report)[0], 10.0 * (1.0 + 2.0), 0.05, "mean");
}

#[test]
fn a_pool_without_a_queue_refuses_as_many_as_erlang_says() {
    let pool = pool(2, "limits: { max_in_flight: 4, queue: 0 }");
    let settings = Settings {
        rate: 600.0,
        length: RunLength::Requests(30_000),
        concurrency: 4,
        ..settings()
    };
    let report = run(&pool, settings);
    // Two hosts of four are eight servers to every algorithm, since a full host is passed over.
    let expected = erlang_b(8, 6.0);
    for one in &report.algorithms {
        let refused = one.refused as f64 / one.requests as f64;
        assert_near(refused, expected, 0.06, one.algorithm);
        assert!(one.hosts.iter().all(|host| host.peak_queue == 0));
    }
}

#[test]
fn requests_wait_for_full_hosts_in_their_order_and_not_for_ever() {
    let limits = "limits: { max_in_flight: 1, queue: 20, queue_timeout: 100ms }";
    let settings = Settings {
        rate: 150.0,
        concurrency: 1,
        service: ServiceDistribution::Deterministic,
        ..settings()
    };
    let report = run(&pool(1, limits), settings);
    assert!(report.is_overloaded());
    for one in &report.algorithms {
        let latency = one.latency.expect("some succeed");
        assert!(latency.max_ms <= 110.000_1, "{latency:?}");
        // The host serves 100 of 150.
        let refused = one.refused as f64 / one.requests as f64;
        assert_near(refused, 1.0 / 3.0, 0.05, one.algorithm);
        assert!((10..=20).contains(&one.peak_waiting), "{one:?}");
    }
}

/// Means in services of ten hosts that serve one request at a time, at 0.8 of their capacity: what the theory of queues
/// and independent simulations agree on.
#[test]
fn the_algorithms_keep_what_theory_promises() {
    let means = [
        ("random", 5.02, 0.1),
        ("round_robin", 2.85, 0.1),
        ("p2c", 2.15, 0.1),
        ("least_load", 1.35, 0.1),
    ];
    let settings = Settings {
        rate: 800.0,
        length: RunLength::Requests(60_000),
        concurrency: 1,
        ..settings()
    };
    for (algorithm, expected, tolerance) in means {
        let settings = Settings {
            algorithms: only(&[algorithm]),
            ..settings.clone()
        };
        let report = run(&pool(10, ""), settings);
        assert_near(mean(&report)[0] / 10.0, expected, tolerance, algorithm);
    }
}

#[test]
fn a_seed_decides_everything() {
    let pool = pool(3, "algorithm: { name: consistent_hash, key: uri }");
    let with = |seed| {
        let length = RunLength::Requests(3_000);
        run(
            &pool,
            Settings {
                seed,
                length,
                ..settings()
            },
        )
    };
    assert_eq!(with(7), with(7));
    let (one, other) = (with(7), with(8));
    for (one, other) in one.algorithms.iter().zip(&other.algorithms) {
        assert_ne!(one.latency, other.latency, "{}", one.algorithm);
        assert_eq!(one.configured, one.algorithm == "consistent_hash");
    }
}

#[test]
fn hosts_get_requests_by_weight_and_clients_stay_with_their_host() {
    let hosts = "[\"10.0.0.1:80\", { address: \"10.0.0.2:80\", weight: 3 }, { address: \"10.0.0.3:80\", weight: 0 }]";
    let text = format!("pools: {{ web: {{ hosts: {hosts} }} }}\nlisteners: [\"127.0.0.1:80\"]\n");
    let config = Config::parse(&text, Path::new("test.yaml")).expect("a valid file");
    let report = run(&config.pools[0], settings());
    for one in &report.algorithms {
        let shares = Vec::from_iter(one.hosts.iter().map(|host| host.share));
        assert_eq!(shares.len(), 2, "a drained host takes no part");
        assert!((0.65..0.85).contains(&shares[1]), "{one:?}");
    }
    // One client: every request of a hashing algorithm meets the same host.
    let alone = Settings {
        keys: 1,
        algorithms: only(&["consistent_hash", "ip_hash"]),
        ..settings()
    };
    for one in run(&config.pools[0], alone).algorithms {
        assert!(one.hosts.iter().any(|host| host.share == 1.0), "{one:?}");
    }
}

#[test]
fn a_host_that_fails_is_ejected_and_one_that_recovers_comes_back_slowly() {
    let failing = |time| {
        let host = "10.0.0.1:80".to_owned();
        let settings = Settings {
            warm_up: Some(Duration::ZERO),
            failing: vec![Failing { host, time }],
            ..settings()
        };
        run(&pool(4, ""), settings)
    };
    for one in failing(None).algorithms {
        let host = &one.hosts[0];
        // Five in a row, those that were on their way, and a probe.
        assert!((6..60).contains(&host.failed), "{one:?}");
        assert_eq!((host.failed, host.ejections), (one.failed, 2), "{one:?}");
    }
    for one in failing(Some(Duration::from_secs(5))).algorithms {
        let host = &one.hosts[0];
        assert_eq!(host.ejections, 1, "{one:?}");
        // Ten of twenty seconds, from the probe on, and in them less than its share where hosts start slowly.
        assert!((0.03..0.16).contains(&host.share), "{one:?}");
    }
    let never = run(
        &pool(4, "ejection: none"),
        Settings {
            failing: vec![Failing {
                host: "10.0.0.1:80".to_owned(),
                time: None,
            }],
            algorithms: only(&["random"]),
            ..settings()
        },
    );
    let share = never.algorithms[0].failed as f64 / never.algorithms[0].requests as f64;
    assert_near(share, 0.25, 0.05, "failed");
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |pool: &Pool, settings| {
        let error = Scenario::new(pool, settings).expect_err("it does not fit");
        error.to_string()
    };
    let pool = pool(2, "");
    let slow = |host: &str| Settings {
        slow: vec![Slowdown {
            host: host.to_owned(),
            factor: 10.0,
        }],
        ..settings()
    };
    assert_eq!(
        refused(&pool, slow("10.0.0.9:80")),
        "no host of pool `web` that takes requests is called `10.0.0.9:80`; there are 10.0.0.1:80, 10.0.0.2:80"
    );
    let failing = ["10.0.0.1:80", "10.0.0.2:80"].map(|host| Failing {
        host: host.to_owned(),
        time: None,
    });
    let failing = Settings {
        failing: failing.to_vec(),
        ..settings()
    };
    assert_eq!(
        refused(&pool, failing),
        "every host of pool `web` fails throughout"
    );
    let long = Settings {
        length: RunLength::Time(Duration::from_secs(86_400)),
        ..settings()
    };
    assert_eq!(
        refused(&pool, long),
        "a run of 86400000 requests is too long; the limit is 10000000"
    );
    let warm_up = Settings {
        warm_up: Some(Duration::from_secs(20)),
        ..settings()
    };
    assert_eq!(
        refused(&pool, warm_up),
        "a warm-up of 20s leaves nothing of a run of 20s"
    );
    let unknown = Settings {
        algorithms: only(&["fastest"]),
        ..settings()
    };
    let message = refused(&pool, unknown);
    assert!(message.starts_with("unknown algorithm `fastest`; known are "));
}

#[test]
fn extreme_times_neither_overflow_nor_hang() {
    let settings = Settings {
        rate: 0.1,
        length: RunLength::Requests(200),
        service_time: Duration::from_secs(60),
        service: ServiceDistribution::Pareto,
        concurrency: 1,
        slow: vec![Slowdown {
            host: "10.0.0.1:80".to_owned(),
            factor: 100.0,
        }],
        ..settings()
    };
    let report = run(&pool(1, "limits: { max_in_flight: 1 }"), settings);
    assert!(report.is_overloaded());
    for one in &report.algorithms {
        assert!(one.refused > 0, "{one:?}");
    }
}
