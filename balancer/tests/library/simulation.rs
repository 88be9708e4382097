//! A pool of hosts under open-loop traffic, on a manual clock: no thread, no sleep, and the same result every time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ballast_balancer::{Balancer, Clock, Host, Lease, Options, Selection};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{build_with, hosts, outcome};

/// How a host responds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    /// Mean of the exponentially distributed service time.
    pub(super) mean: Duration,
    /// The number of requests that it serves at a time; others wait in its queue.
    pub(super) concurrency: usize,
    pub(super) succeeds: bool,
}

impl Service {
    /// 10 ms of service, eight requests at a time.
    pub(super) const NORMAL: Service = Service {
        mean: Duration::from_millis(10),
        concurrency: 8,
        succeeds: true,
    };
    pub(super) const TEN_TIMES_SLOWER: Service = Service {
        mean: Duration::from_millis(100),
        ..Service::NORMAL
    };
    pub(super) const FAILS_AT_ONCE: Service = Service {
        mean: Duration::from_millis(1),
        succeeds: false,
        ..Service::NORMAL
    };
}

/// The outcome of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// The position of the host.
    pub(super) host: usize,
    /// The time from its arrival to its end.
    pub(super) latency: Duration,
}

#[derive(Debug)]
struct Running {
    lease: Lease,
    arrived: u64,
}

#[derive(Debug, Default)]
struct Queue {
    working: usize,
    waiting: VecDeque<Running>,
}

/// Hosts of a balancer. Time advances only in [`run`](Simulation::run).
#[derive(Debug)]
pub(super) struct Simulation {
    pub(super) hosts: Vec<Arc<Host>>,
    pub(super) services: Vec<Service>,
    pub(super) balancer: Balancer,
    clock: Clock,
    now: u64,
    rng: SmallRng,
    queues: Vec<Queue>,
    /// The ends of running requests: time, number of the request, host.
    ends: BinaryHeap<Reverse<(u64, u64, usize)>>,
    running: std::collections::HashMap<u64, Running>,
    number: u64,
}

impl Simulation {
    pub(super) fn new(algorithm: &str, services: &[Service], options: Options, seed: u64) -> Self {
        let hosts = hosts(services.len());
        let clock = Clock::manual();
        let options = options.clock(clock.clone()).seed(seed);
        Simulation {
            balancer: build_with(algorithm, hosts.iter().cloned(), &options).expect("a balancer"),
            queues: hosts.iter().map(|_| Queue::default()).collect(),
            services: services.to_vec(),
            hosts,
            clock,
            now: 0,
            rng: SmallRng::seed_from_u64(seed),
            ends: BinaryHeap::new(),
            running: Default::default(),
            number: 0,
        }
    }

    /// Sends requests at random times, `rate` per second on average, for `time`. Returns the finished requests, in
    /// the order of their ends, without those still running.
    pub(super) fn run(&mut self, rate: f64, time: Duration) -> Vec<Done> {
        let mut done = Vec::new();
        let end = self.now + time.as_nanos() as u64;
        let mut arrival = self.now + self.exponential(1e9 / rate);
        loop {
            let next_end = self.ends.peek().map(|Reverse((at, ..))| *at);
            match next_end {
                Some(at) if at <= arrival.min(end) => {
                    self.advance(at);
                    done.extend(self.end_one());
                }
                _ if arrival >= end => break,
                _ => {
                    self.advance(arrival);
                    self.arrive();
                    arrival = self.now + self.exponential(1e9 / rate);
                }
            }
        }
        self.advance(end);
        done
    }

    fn advance(&mut self, to: u64) {
        self.clock.advance(Duration::from_nanos(to - self.now));
        self.now = to;
    }

    fn arrive(&mut self) {
        let lease = self.balancer.lease(&Selection::new()).expect("a host");
        let host = self.position(lease.host());
        let running = Running {
            lease,
            arrived: self.now,
        };
        let queue = &mut self.queues[host];
        if queue.working == self.services[host].concurrency {
            queue.waiting.push_back(running);
        } else {
            self.start(host, running);
        }
    }

    fn start(&mut self, host: usize, running: Running) {
        self.queues[host].working += 1;
        let work = self.exponential(self.services[host].mean.as_nanos() as f64);
        self.ends
            .push(Reverse((self.now + work, self.number, host)));
        self.running.insert(self.number, running);
        self.number += 1;
    }

    fn end_one(&mut self) -> Option<Done> {
        let Reverse((_, number, host)) = self.ends.pop()?;
        let Running { lease, arrived } = self.running.remove(&number)?;
        let latency = Duration::from_nanos(self.now - arrived);
        lease.finish(outcome(latency, self.services[host].succeeds));
        self.queues[host].working -= 1;
        if let Some(next) = self.queues[host].waiting.pop_front() {
            self.start(host, next);
        }
        Some(Done { host, latency })
    }

    fn position(&self, host: &Host) -> usize {
        let mut hosts = self.hosts.iter();
        hosts
            .position(|known| known.id() == host.id())
            .expect("one of ours")
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        (-mean * (1.0 - self.rng.r#gen::<f64>()).ln()) as u64
    }
}

/// The latency that a share `q` of `done` does not exceed.
pub(super) fn quantile(done: &[Done], q: f64) -> Duration {
    let mut latencies: Vec<Duration> = done.iter().map(|done| done.latency).collect();
    latencies.sort_unstable();
    latencies[((latencies.len() - 1) as f64 * q) as usize]
}

/// The share of `done` that went to `host`.
pub(super) fn share(done: &[Done], host: usize) -> f64 {
    done.iter().filter(|done| done.host == host).count() as f64 / done.len() as f64
}
