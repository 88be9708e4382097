//! What clients notice of a host that is slow, fails, stalls or restarts, and of slow clients next to them: ballast
//! compared with nginx and HAProxy.
//!
//! `cargo bench --bench scenarios -- slow fail` prints a table for each named scenario; `--help` lists the options.
//! Each balancer in turn runs in front of the same eight hosts in this process: exponential service times with a mean
//! of 10 ms, eight requests at a time, first in, first out, from a fixed seed. The load is open: its schedule does not
//! wait for responses, and latencies count from when a request was due. Everything is on loopback and ends with the
//! run.

mod contenders;
mod rig;
#[expect(dead_code, unused_imports, reason = "the tests need the rest of it")]
#[path = "../../tests/e2e/support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use contenders::{CONTENDERS, Contender};
use rig::{Hosts, Mode, Plan, Record, SlowClients};

/// Hosts of each balancer.
const HOSTS: usize = 8;

/// Clients that drip the head of a request, and how often this is compared with a run without such clients.
const SLOW_CLIENTS: usize = 2_000;
const ROUNDS: usize = 3;

/// Source addresses of the load.
const CLIENTS: u16 = 1_000;

/// Excluded from the results: time for balancers to learn, and for connections to be opened.
const WARM_UP: Duration = Duration::from_secs(1);

/// After this a request counts as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a restarting host is down, and how long it is up before the next one goes down.
const DOWNTIME: Duration = Duration::from_secs(2);
const UPTIME: Duration = Duration::from_millis(500);

#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo bench --bench scenarios --",
    about = "What clients notice of a host that is slow, fails, stalls or restarts: ballast beside nginx and HAProxy"
)]
struct Options {
    /// The scenarios to run
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Requests a second [default: 2000; restart: 1000]
    #[arg(long)]
    rate: Option<f64>,
    /// How long the load runs on each balancer, the first second of it as a warm-up [default: 10; restart: 20]
    #[arg(long)]
    seconds: Option<u64>,
    /// Decides on arrivals and service times
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only balancers whose name contains this, such as `ballast` or `haproxy leastconn`
    #[arg(long, default_value = "")]
    only: String,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// One host takes ten times as long
    Slow,
    /// One host responds with 500 after a millisecond
    Fail,
    /// Each host in turn sends no response for 200 ms every 2 s
    Stall,
    /// Each host in turn is away for 2 s
    Restart,
    /// 2,000 clients drip the head of a request
    #[value(name = "slow_clients")]
    SlowClients,
}

impl Scenario {
    fn rate(self) -> f64 {
        match self {
            Scenario::Restart | Scenario::SlowClients => 1_000.0,
            _ => 2_000.0,
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Scenario::Restart => 20,
            Scenario::SlowClients => 5,
            _ => 10,
        }
    }

    fn rounds(self) -> usize {
        match self {
            Scenario::SlowClients => ROUNDS,
            _ => 1,
        }
    }

    /// Sets the behaviour of the hosts at the start.
    fn prepare(self, hosts: &Hosts) {
        match self {
            Scenario::Slow => hosts.set(0, Mode::Slow(10.0)),
            Scenario::Fail => hosts.set(0, Mode::Failing),
            Scenario::Stall => {
                let now = Instant::now();
                let period = Duration::from_secs(2);
                for number in 0..hosts.count() {
                    let turn = period.mul_f64(number as f64 / hosts.count() as f64);
                    let mode = Mode::Stalling {
                        from: now + turn,
                        period,
                        pause: Duration::from_millis(200),
                    };
                    hosts.set(number, mode);
                }
            }
            Scenario::Restart => {}
            // They respond at once, so that their service time does not hide the time of the balancer.
            Scenario::SlowClients => {
                (0..hosts.count()).for_each(|number| hosts.set(number, Mode::Slow(0.0)));
            }
        }
    }
}

/// The load and its results.
#[derive(Debug, Clone, Copy)]
struct Run {
    scenario: Scenario,
    rate: f64,
    duration: Duration,
    seed: u64,
}

impl Run {
    /// The load on one balancer; `None` if it is not installed. The second value is the share of the requests that the
    /// first host got or, with slow clients, p99 as a multiple of p99 on the same balancer without them.
    fn measure(self, contender: &Contender) -> Option<(Record, f64)> {
        let hosts = Hosts::start(HOSTS, self.seed);
        let running = contender.start(&hosts)?;
        self.scenario.prepare(&hosts);
        let plan = Plan {
            target: running.address,
            rate: self.rate,
            duration: self.duration,
            clients: CLIENTS,
            patience: REQUEST_TIMEOUT,
            seed: self.seed,
        };
        if self.scenario == Scenario::SlowClients {
            let alone = plan.run().after(WARM_UP).latency(0.99);
            let _slow = SlowClients::start(running.address, SLOW_CLIENTS);
            let record = plan.run().after(WARM_UP);
            let ratio = record.latency(0.99).as_secs_f64() / alone.as_secs_f64();
            return Some((record, ratio));
        }
        let finished = AtomicBool::new(false);
        let record = thread::scope(|scope| {
            if self.scenario == Scenario::Restart {
                scope.spawn(|| restart(&hosts, &finished));
            }
            let record = plan.run();
            finished.store(true, Ordering::Relaxed);
            record
        });
        let requests = hosts.requests();
        let all: u64 = requests.iter().sum();
        let share = requests[0] as f64 / all.max(1) as f64;
        Some((record.after(WARM_UP), share))
    }

    fn heading(self) {
        let (title, columns) = match self.scenario {
            Scenario::Slow => (
                "One host of eight is ten times slower",
                "p50 ms | p99 ms | p99.9 ms | failed | share of the slow host",
            ),
            Scenario::Fail => (
                "One host of eight answers 500 after a millisecond",
                "p50 ms | p99 ms | p99.9 ms | success | share of the failing host",
            ),
            Scenario::Stall => (
                "Each host gives no answer for 200 ms every 2 s, one after the other",
                "p50 ms | p99 ms | p99.9 ms | failed",
            ),
            Scenario::Restart => (
                "Each host is away for 2 s, one after the other",
                "p50 ms | p99 ms | p99.9 ms | requests | failed",
            ),
            Scenario::SlowClients => (
                "2,000 clients drip the head of a request beside the others",
                "p50 ms | p99 ms | p99.9 ms | failed | p99 as a multiple of p99 without them",
            ),
        };
        println!("\n## {title}");
        println!("{} requests/s for {:?}\n", self.rate, self.duration);
        println!("| balancer | {columns} |");
        println!("|---|{}", "---|".repeat(columns.matches('|').count() + 1));
    }

    fn row(self, name: &str, record: &Record, figure: f64) {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| record.latency(q).as_secs_f64() * 1e3);
        let latencies = format!("| {name} | {p50:.1} | {p99:.1} | {p999:.1} |");
        let (failed, success) = (record.failed(), record.success() * 100.0);
        let share = figure * 100.0;
        match self.scenario {
            Scenario::Slow => println!("{latencies} {failed} | {share:.2} % |"),
            Scenario::Fail => println!("{latencies} {success:.2} % | {share:.2} % |"),
            Scenario::Stall => println!("{latencies} {failed} |"),
            Scenario::Restart => println!("{latencies} {} | {failed} |", record.count()),
            Scenario::SlowClients => println!("{latencies} {failed} | {figure:.2} |"),
        }
    }
}

/// Takes each host down in turn until the load is over.
fn restart(hosts: &Hosts, finished: &AtomicBool) {
    thread::sleep(WARM_UP);
    for number in (0..hosts.count()).cycle() {
        for (time, act) in [
            (DOWNTIME, Hosts::kill as fn(&Hosts, usize)),
            (UPTIME, Hosts::revive),
        ] {
            if finished.load(Ordering::Relaxed) {
                return;
            }
            act(hosts, number);
            thread::sleep(time);
        }
    }
}

fn main() {
    let options = Options::parse();
    if options.scenarios.is_empty() {
        println!("scenarios: none named; see `cargo bench --bench scenarios -- --help`");
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words = words.iter().filter(|word| *word != "--bench");
    let words: Vec<&str> = words.map(String::as_str).collect();
    println!("cargo bench --bench scenarios -- {}", words.join(" "));
    for &scenario in &options.scenarios {
        let seconds = options.seconds.unwrap_or(scenario.seconds());
        let run = Run {
            scenario,
            rate: options.rate.unwrap_or(scenario.rate()),
            duration: Duration::from_secs(seconds),
            seed: options.seed,
        };
        run.heading();
        for contender in CONTENDERS
            .iter()
            .cycle()
            .take(scenario.rounds() * CONTENDERS.len())
        {
            let name = contender.name();
            if !name.contains(&options.only) {
                continue;
            }
            if let Some((record, figure)) = run.measure(contender) {
                run.row(&name, &record, figure);
            }
        }
    }
}
