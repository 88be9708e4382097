//! `ballast simulate`: a pool under simulated load.

use std::fs;
use std::path::Path;

use ballast_balancer::ALGORITHMS;
use serde_json::Value;

use crate::support::{Finished, file, run};

/// A file with a pool of these hosts, and further keys of the pool.
fn configured(folder: &Path, hosts: usize, keys: &str) -> String {
    let hosts = (1..=hosts).map(|host| format!("\"10.0.0.{host}:80\""));
    let hosts = Vec::from_iter(hosts).join(", ");
    let text = format!(
        "listeners: [\"127.0.0.1:80\"]\npools:\n  web:\n    hosts: [{hosts}]\n    {keys}\n"
    );
    file(folder, "web.yaml", &text).display().to_string()
}

/// Runs the command with a file of eight hosts and these arguments.
fn simulate(arguments: &[&str]) -> Finished {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let config = configured(folder.path(), 8, "algorithm: least_load");
    run(&[&["simulate", "-c", &config], arguments].concat())
}

/// The results by algorithm.
#[track_caller]
fn results(end: &Finished) -> Vec<Value> {
    assert_eq!((end.code, &*end.stderr), (Some(0), ""), "{end:?}");
    let report: Value = serde_json::from_str(&end.stdout).expect("JSON");
    let algorithms = report["algorithms"].as_array();
    algorithms.expect("the report lists algorithms").clone()
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// `cargo bench --bench scenarios -- slow --only ballast`, as recorded in README.md: eight hosts, one of them ten times
/// slower. p50 and p99 in milliseconds, and the share of the slow host.
const MEASURED: [(&str, f64, f64, f64); 2] =
    [("p2c", 7.3, 49.5, 0.57), ("least_load", 7.4, 48.9, 0.51)];

/// Seeds whose results are averaged: the slow host gets about a hundred requests in a run.
const SEEDS: u64 = 5;

#[test]
fn its_figures_are_those_of_real_hosts_behind_the_real_balancer() {
    let slow = "--rate 2000 --duration 10s --slow 10.0.0.1:80=10x --format json";
    for (algorithm, p50, p99, share) in MEASURED {
        let mut sums = [0.0; 3];
        for seed in 1..=SEEDS {
            // Latencies are measured after a second. The share is that of all requests.
            let seed = seed.to_string();
            let run = |warm_up: &str| {
                let mut arguments = Vec::from_iter(slow.split(' '));
                arguments.extend(["--algorithm", algorithm, "--warm-up", warm_up]);
                arguments.extend(["--seed", &seed]);
                results(&simulate(&arguments)).remove(0)
            };
            let (warm, all) = (run("1s"), run("0s"));
            sums[0] += number(&warm["latency"]["p50_ms"]);
            sums[1] += number(&warm["latency"]["p99_ms"]);
            sums[2] += number(&all["hosts"][0]["share"]) * 100.0;
        }
        for (sum, measured) in sums.into_iter().zip([p50, p99, share]) {
            let simulated = sum / SEEDS as f64;
            let error = simulated / measured - 1.0;
            assert!(
                error.abs() <= 0.15,
                "{algorithm}: simulated {simulated}, measured {measured}; p50, p99 and share of {SEEDS} runs are {sums:?}"
            );
        }
    }
}

#[test]
fn a_table_and_a_plot_show_every_algorithm_and_its_hosts() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let plot = folder.path().join("web.svg");
    let drawn = plot.display().to_string();
    let end = simulate(&["--requests", "2000", "--plot", &drawn]);
    assert_eq!((end.code, &*end.stderr), (Some(0), ""), "{end:?}");
    let svg = fs::read_to_string(plot).expect("the plot was written");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for info in ALGORITHMS {
        let begins = |line: &&str| line.split(' ').next() == Some(info.name);
        // In the summary, and above its hosts.
        let count = end.stdout.lines().filter(begins).count();
        assert_eq!(count, 2, "{}\n{}", info.name, end.stdout);
        assert!(svg.contains(&format!(">{}", info.name)), "{}", info.name);
    }
    for host in 1..=8 {
        let host = format!("10.0.0.{host}:80");
        assert_eq!(
            end.stdout.matches(&host).count(),
            ALGORITHMS.len(),
            "{host}"
        );
        assert!(svg.contains(&host), "{host}");
    }
    assert!(end.stdout.contains("\nleast_load * "), "{}", end.stdout);
    assert!(
        end.stdout.contains("\n16 % of capacity; "),
        "{}",
        end.stdout
    );
    assert!(!end.stdout.contains("overloaded"), "{}", end.stdout);
}

#[test]
fn a_seed_decides_what_is_printed() {
    let seeded = |seed| {
        let end = simulate(&["--requests", "1000", "--format", "json", "--seed", seed]);
        results(&end)
    };
    assert_eq!(seeded("1"), seeded("1"));
    assert_ne!(seeded("1"), seeded("2"));
}

#[test]
fn the_limits_of_the_file_hold() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let limits = "limits: { max_in_flight: 2, queue: 3, queue_timeout: 1s }";
    let config = configured(folder.path(), 2, limits);
    let end = run(&[
        "simulate",
        "-c",
        &config,
        "--requests",
        "3000",
        "--format",
        "json",
    ]);
    for one in results(&end) {
        assert!(number(&one["refused"]) > 0.0, "{one}");
        assert_eq!(number(&one["peak_waiting"]), 3.0, "{one}");
        for host in one["hosts"].as_array().expect("it has hosts") {
            assert_eq!(number(&host["peak_queue"]), 0.0, "{one}");
        }
    }
}

#[test]
fn more_than_the_hosts_can_serve_is_told() {
    // Eight hosts serve 6,400 requests a second.
    let end = simulate(&["--rate", "7680", "--requests", "2000"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(
        end.stdout.contains("\noverloaded: 120 % of capacity; "),
        "{}",
        end.stdout
    );
}

#[test]
fn a_host_that_fails_is_ejected_as_in_the_pool() {
    let failing = ["--requests", "5000", "--fail", "10.0.0.1:80", "--warm-up"];
    let end = simulate(&[&failing[..], &["0s", "--format", "json"]].concat());
    for one in results(&end) {
        let host = &one["hosts"][0];
        assert_eq!(number(&host["ejections"]), 1.0, "{one}");
        let failed = number(&host["failed"]);
        assert!((5.0..60.0).contains(&failed), "{one}");
        assert_eq!(number(&one["failed"]), failed, "{one}");
    }
}

#[test]
fn what_does_not_fit_ends_with_a_reason() {
    for (arguments, reason) in [
        (
            &["--slow", "10.0.0.9:80=10x"][..],
            "no host of pool `web` that takes requests is called `10.0.0.9:80`; there are 10.0.0.1:80, ",
        ),
        (&["--pool", "api"], "the file has no pool `api`; it has web"),
        (
            &["--algorithm", "fastest"],
            "unknown algorithm `fastest`; known are ",
        ),
        (
            &["--duration", "1s", "--warm-up", "2s"],
            "a warm-up of 2s leaves nothing of a run of 1s",
        ),
        (
            &["--rate", "100000", "--duration", "1h"],
            "a run of 360000000 requests is too long; the limit is 10000000",
        ),
    ] {
        let end = simulate(arguments);
        assert_eq!((end.code, &*end.stdout), (Some(2), ""), "{end:?}");
        assert!(end.stderr.starts_with(reason), "{end:?}");
    }
    for wrong in [
        &["--rate", "0"][..],
        &["--slow", "10.0.0.1:80"],
        &["--service-time", "2h"],
        &["--requests", "10", "--duration", "1s"],
    ] {
        let end = simulate(wrong);
        assert_eq!((end.code, &*end.stdout), (Some(2), ""), "{end:?}");
    }
    let end = simulate(&["--requests", "10", "--plot", "/nowhere/web.svg"]);
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(
        end.stderr
            .starts_with("cannot write /nowhere/web.svg: No such file"),
        "{end:?}"
    );
}
