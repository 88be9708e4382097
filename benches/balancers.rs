//! The cost of lease and release for every algorithm, host count and thread count, compared with Pingora's own
//! `LoadBalancer::select` for the algorithms that Pingora has.
//!
//! `cargo bench --bench balancers` runs all; `BALLAST_TABLE=1 cargo bench --bench balancers` prints the table of docs/performance.md
//! instead: medians of interleaved rounds, so that a noisy machine disturbs both sides alike.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use ballast_balancer::{ALGORITHMS, Host, Selection, build};
use criterion::{BenchmarkId, Criterion};
use pingora::lb::LoadBalancer;
use pingora::lb::selection::{BackendIter, BackendSelection, Consistent, Random, RoundRobin};

const HOSTS: [usize; 5] = [3, 10, 100, 1_000, 10_000];
const THREADS: [usize; 2] = [1, 2];

/// Sends request number `i` through a balancer.
type Step = Box<dyn Fn(u32) + Send + Sync>;

fn address(i: usize) -> String {
    format!("10.{}.{}.{}:80", i >> 16, i >> 8 & 255, i & 255)
}

fn ballast(algorithm: &str, n: usize) -> Step {
    let hosts = (0..n).map(|i| Arc::new(Host::new(address(i).parse().expect("an address"))));
    let balancer = build(algorithm, hosts).expect("a balancer");
    Box::new(move |i| {
        let key = i.wrapping_mul(2_654_435_761).to_le_bytes();
        let client = IpAddr::V4(Ipv4Addr::from(key));
        let request = Selection::new().key(&key).client(client);
        drop(black_box(balancer.lease(&request).expect("a host")));
    })
}

fn pingora<S>(n: usize) -> Step
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    let balancer = LoadBalancer::<S>::try_from_iter((0..n).map(address)).expect("addresses");
    Box::new(move |i| {
        let key = i.wrapping_mul(2_654_435_761).to_le_bytes();
        black_box(balancer.select(&key, 256).expect("a host"));
    })
}

/// Pingora's counterpart, if it exists.
fn pingora_counterpart(algorithm: &str, n: usize) -> Option<Step> {
    match algorithm {
        "random" => Some(pingora::<Random>(n)),
        "round_robin" => Some(pingora::<RoundRobin>(n)),
        // 160 points per host in u16 nodes.
        "consistent_hash" => Some(pingora::<Consistent>(n)),
        _ => None,
    }
}

/// The time in which `threads` threads take `steps` steps each.
fn timed(step: &Step, threads: usize, steps: u64) -> Duration {
    if threads == 1 {
        let start = Instant::now();
        (0..steps as u32).for_each(step);
        return start.elapsed();
    }
    let barrier = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads as u32)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let start = Instant::now();
                    (0..steps as u32).for_each(|i| step(i.wrapping_add(thread << 24)));
                    start.elapsed()
                })
            })
            .collect();
        barrier.wait();
        let times = workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"));
        times.max().unwrap_or_default()
    })
}

fn criterion_runs(criterion: &mut Criterion) {
    for info in ALGORITHMS {
        for threads in THREADS {
            let mut group = criterion.benchmark_group(format!("{}/{threads}t", info.name));
            group
                .warm_up_time(Duration::from_millis(200))
                .measurement_time(Duration::from_secs(1));
            for n in HOSTS {
                let mut run = |side: &str, step: &Step| {
                    group.bench_function(BenchmarkId::new(side, n), |bencher| {
                        bencher.iter_custom(|steps| timed(step, threads, steps));
                    });
                };
                run("ballast", &ballast(info.name, n));
                if let Some(step) = pingora_counterpart(info.name, n) {
                    run("pingora", &step);
                }
            }
        }
    }
}

/// Nanoseconds per step: the median of rounds in which the two sides alternate.
fn medians(sides: &[&Step], threads: usize) -> Vec<f64> {
    const ROUNDS: usize = 9;
    let calibration = timed(sides[0], 1, 2_000).as_nanos() as u64 / 2_000;
    let steps = 15_000_000 / calibration.max(1);
    let mut times = vec![Vec::with_capacity(ROUNDS); sides.len()];
    for _ in 0..ROUNDS {
        for (side, times) in sides.iter().zip(&mut times) {
            times.push(timed(side, threads, steps).as_nanos() as f64 / steps as f64);
        }
    }
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    };
    times.into_iter().map(median).collect()
}

fn table() {
    for threads in THREADS {
        println!(
            "\n{threads} thread(s), ns a request | {}",
            HOSTS.map(|n| n.to_string()).join(" | ")
        );
        println!("|---|{}", "---|".repeat(HOSTS.len()));
        for info in ALGORITHMS {
            let cell = |n| {
                let ballast = ballast(info.name, n);
                match pingora_counterpart(info.name, n) {
                    None => format!("{:.0}", medians(&[&ballast], threads)[0]),
                    Some(pingora) => {
                        let found = medians(&[&ballast, &pingora], threads);
                        format!("{:.0} ({:.0})", found[0], found[1])
                    }
                }
            };
            println!("| `{}` | {} |", info.name, HOSTS.map(cell).join(" | "));
        }
    }
}

fn main() {
    if std::env::var_os("BALLAST_TABLE").is_some() {
        return table();
    }
    let mut criterion = Criterion::default().configure_from_args();
    criterion_runs(&mut criterion);
    criterion.final_summary();
}
