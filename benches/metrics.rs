//! The cost of counting a request: the observer as it is called at the end of a request, by one thread and by two
//! threads that count at the same host.
//!
//! `cargo bench --bench metrics`

use std::hint::black_box;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use ballast::config::Config;
use ballast::metrics::MetricsCounters;
use ballast::pool::{HostRegistry, SelectionReason};
use ballast::proxy::ActiveConfig;
use ballast::record::{
    Attempt, AttemptOutcome, Observer, RequestRecord, RequestSummary, TerminationReason,
};
use criterion::Criterion;

const FILE: &str = "
listeners: [\"127.0.0.1:1\"]
pools:
  web: { hosts: [\"127.0.0.1:2\", \"127.0.0.1:3\", \"127.0.0.1:4\"] }
";

fn active() -> ActiveConfig {
    let config = Config::parse(FILE, Path::new("bench.yaml")).expect("a configuration");
    ActiveConfig::new(&config, &mut HostRegistry::new()).expect("a configuration")
}

/// Reports `times` requests to `observer`, each with a response from a host over an existing connection.
fn report(observer: &dyn Observer, active: &ActiveConfig, times: u64) -> Duration {
    let pool = &active.pools[0];
    let now = Instant::now();
    let mut attempt = Attempt::begin(pool.members()[1].host(), 1, SelectionReason::Balanced, now);
    attempt.connect_time = Some(Duration::from_micros(20));
    attempt.reused = true;
    attempt.first_byte = Some(Duration::from_micros(700));
    attempt.status = Some(200);
    attempt.end(AttemptOutcome::Ok);
    let attempts = [attempt];
    let begin = Instant::now();
    for number in 0..times {
        let record = RequestRecord {
            request: None,
            summary: RequestSummary {
                client: None,
                tls: false,
                version: None,
                began: now,
                duration: Duration::from_micros(800 + number % 512),
                queued: Duration::ZERO,
                grpc_status: None,
                status: Some(200),
                received: 0,
                sent: 1_024,
                termination: TerminationReason::Complete,
                trace: None,
            },
            pool: Some((0, pool)),
            attempts: &attempts,
            id: None,
            verification: None,
        };
        observer.on_request_end(black_box(&record));
    }
    begin.elapsed()
}

fn main() {
    let active = Arc::new(active());
    let counts = Arc::new(MetricsCounters::default());
    let observer = counts.observer(&active.pools);
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("ended");
    group.bench_function("one thread", |bench| {
        bench.iter_custom(|times| report(&*observer, &active, times));
    });
    group.bench_function("two threads at one host", |bench| {
        bench.iter_custom(|times| {
            let begin = Arc::new(Barrier::new(2));
            let threads = [(); 2].map(|()| {
                let (observer, active) = (Arc::clone(&observer), Arc::clone(&active));
                let begin = Arc::clone(&begin);
                thread::spawn(move || {
                    begin.wait();
                    report(&*observer, &active, times)
                })
            });
            let times = threads.map(|thread| thread.join().expect("no panic"));
            times.into_iter().max().unwrap_or_default()
        });
    });
    group.finish();
    criterion.final_summary();
}
