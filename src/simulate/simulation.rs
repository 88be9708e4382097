//! The run of a scenario with one algorithm: requests arrive, wait, are served, and end.

use std::collections::VecDeque;

use super::balancing::{SimulatedAlgorithm, SimulatedBalancer, SimulatedLease};
use super::ejection::{EjectionChange, Ejections, nanos};
use super::event_queue::EventQueue;
use super::gauge::Gauge;
use super::host_queue::HostQueue;
use super::latencies::Latencies;
use super::report::{AlgorithmReport, HostReport};
use super::scenario::Scenario;
use super::traffic::{Request, Traffic};
use ballast_balancer::BalancerError;

/// A failing host responds in this part of the mean service time: failing is less work.
const FAILURE_TIME: f64 = 0.1;

/// A request that has a host.
#[derive(Debug)]
struct Placed {
    request: Request,
    host: usize,
    lease: SimulatedLease,
    /// When it got its host.
    at: u64,
    is_probe: bool,
}

/// A request that is being served.
#[derive(Debug)]
struct InService {
    placed: Placed,
    succeeds: bool,
}

/// What is counted for a host, of the requests that are measured.
#[derive(Debug, Clone, Default)]
struct Counts {
    requests: u64,
    failed: u64,
}

/// The state of a run at a time in nanoseconds from its start.
#[derive(Debug)]
struct Simulation<'a> {
    scenario: &'a Scenario,
    balancer: SimulatedBalancer,
    completions: EventQueue<InService>,
    hosts: Vec<HostQueue<Placed>>,
    /// Requests that wait while every host is full.
    waiting: VecDeque<Request>,
    waiting_length: Gauge,
    ejections: Ejections,
    now: u64,
    /// Requests that arrive before are not measured.
    measured_from: u64,
    latencies: Latencies,
    counts: Vec<Counts>,
    /// Measured requests that got no host.
    refused: u64,
}

/// Runs the scenario with an algorithm.
pub(super) fn run(
    scenario: &Scenario,
    algorithm: &SimulatedAlgorithm,
) -> Result<AlgorithmReport, BalancerError> {
    let measured_from = nanos(scenario.warm_up);
    let concurrency = scenario.settings.concurrency as usize;
    let queues = scenario.hosts.iter();
    let simulation = Simulation {
        scenario,
        balancer: SimulatedBalancer::new(algorithm, scenario)?,
        completions: EventQueue::new(),
        hosts: queues
            .map(|_| HostQueue::new(concurrency, measured_from))
            .collect(),
        waiting: VecDeque::new(),
        waiting_length: Gauge::observed_from(measured_from),
        ejections: Ejections::new(scenario.ejection.clone(), scenario.hosts.len()),
        now: 0,
        measured_from,
        latencies: Latencies::default(),
        counts: vec![Counts::default(); scenario.hosts.len()],
        refused: 0,
    };
    Ok(simulation.run(algorithm))
}

impl Simulation<'_> {
    /// Runs until the last request has ended. Queues are measured until the last one has arrived.
    fn run(mut self, algorithm: &SimulatedAlgorithm) -> AlgorithmReport {
        let mut traffic = Traffic::new(&self.scenario.settings).peekable();
        let mut end_of_load = 0;
        loop {
            let completion = self.completions.next_at();
            let deadline = self.deadline();
            let arrival = traffic.peek().map(|request| request.at);
            let next = [completion, deadline, arrival].into_iter().flatten().min();
            let Some(now) = next else {
                break;
            };
            self.now = now;
            self.balancer.advance(now);
            // Of what happens at the same time, that which frees a place comes first.
            if completion == Some(now) {
                self.complete();
            } else if deadline == Some(now) {
                self.waiting.pop_front();
                self.note_waiting();
                self.refuse(now.saturating_sub(nanos(self.scenario.queue.1)));
            } else if let Some(request) = traffic.next() {
                self.arrive(request);
                if traffic.peek().is_none() {
                    self.end_load();
                    end_of_load = now;
                }
            }
        }
        self.report(algorithm, end_of_load)
    }

    /// When the request that has waited longest gives up.
    fn deadline(&self) -> Option<u64> {
        let first = self.waiting.front()?;
        Some(first.at.saturating_add(nanos(self.scenario.queue.1)))
    }

    fn arrive(&mut self, request: Request) {
        let placed = match self.waiting.is_empty() {
            true => self.place(request),
            false => None,
        };
        match placed {
            Some(placed) => self.send(placed),
            None if self.waiting.len() < self.scenario.queue.0 => {
                self.waiting.push_back(request);
                self.note_waiting();
            }
            None => self.refuse(request.at),
        }
    }

    /// Finds a host for a request: one that waits for a probe, or the balancer's choice.
    fn place(&mut self, request: Request) -> Option<Placed> {
        let placed = |host, lease, is_probe| Placed {
            request,
            host,
            lease,
            at: self.now,
            is_probe,
        };
        if let Some(host) = self.ejections.probe_due(self.now)
            && let Some(lease) = self.balancer.probe(host)
        {
            self.ejections.begin_probe(host);
            return Some(placed(host, lease, true));
        }
        let (host, lease) = self.balancer.lease(request.client)?;
        Some(placed(host, lease, false))
    }

    fn send(&mut self, placed: Placed) {
        let host = placed.host;
        if placed.request.at >= self.measured_from {
            self.counts[host].requests += 1;
        }
        if let Some(first) = self.hosts[host].arrive(self.now, placed) {
            self.serve(first);
        }
    }

    /// Begins the service of a request.
    fn serve(&mut self, placed: Placed) {
        let host = &self.scenario.hosts[placed.host];
        let mean = self.scenario.settings.service_time.as_nanos() as f64;
        let succeeds = self.now >= host.fails_until;
        let time = match succeeds {
            true => mean * host.slowdown * placed.request.work,
            false => mean * FAILURE_TIME,
        };
        let end = self.now.saturating_add(time as u64);
        self.completions.add(end, InService { placed, succeeds });
    }

    /// Ends the service that is due, and lets in what waited for it.
    fn complete(&mut self) {
        let Some(InService { placed, succeeds }) = self.completions.pop() else {
            return;
        };
        let host = placed.host;
        placed.lease.finish(self.now - placed.at, succeeds);
        if placed.request.at >= self.measured_from {
            match succeeds {
                true => self.latencies.add(self.now - placed.request.at),
                false => self.counts[host].failed += 1,
            }
        }
        let change = self
            .ejections
            .observe(self.now, host, succeeds, placed.is_probe);
        match change {
            Some(EjectionChange::Ejected) => self.balancer.eject(host),
            Some(EjectionChange::Readmitted) => self.balancer.readmit(host),
            None => {}
        }
        if let Some(next) = self.hosts[host].complete(self.now) {
            self.serve(next);
        }
        while let Some(request) = self.waiting.front().copied() {
            let Some(placed) = self.place(request) else {
                break;
            };
            self.waiting.pop_front();
            self.note_waiting();
            self.send(placed);
        }
    }

    fn note_waiting(&mut self) {
        let waiting = self.waiting.len() as u64;
        self.waiting_length.set(self.now, waiting);
    }

    /// Counts a request that arrived at `arrived` and gets no host.
    fn refuse(&mut self, arrived: u64) {
        self.refused += u64::from(arrived >= self.measured_from);
    }

    fn end_load(&mut self) {
        self.waiting_length.close(self.now);
        for host in &mut self.hosts {
            host.length.close(self.now);
            host.busy.close(self.now);
        }
    }

    fn report(self, algorithm: &SimulatedAlgorithm, end: u64) -> AlgorithmReport {
        let sent: u64 = self.counts.iter().map(|counts| counts.requests).sum();
        let concurrency = f64::from(self.scenario.settings.concurrency);
        let hosts = self.scenario.hosts.iter().zip(&self.hosts);
        let hosts =
            hosts
                .zip(&self.counts)
                .enumerate()
                .map(|(position, ((host, queue), counts))| HostReport {
                    host: host.host.id.to_string(),
                    name: host.host.label.clone(),
                    weight: host.host.weight,
                    slowdown: host.slowdown,
                    requests: counts.requests,
                    share: counts.requests as f64 / sent.max(1) as f64,
                    failed: counts.failed,
                    utilization: queue.busy.mean(end) / concurrency,
                    mean_queue: queue.length.mean(end),
                    peak_queue: queue.length.peak(),
                    ejections: self.ejections.total(position),
                });
        AlgorithmReport {
            algorithm: algorithm.name,
            configured: algorithm.is_configured,
            requests: sent + self.refused,
            failed: self.counts.iter().map(|counts| counts.failed).sum(),
            refused: self.refused,
            hosts: hosts.collect(),
            mean_waiting: self.waiting_length.mean(end),
            peak_waiting: self.waiting_length.peak(),
            latency: self.latencies.report(),
        }
    }
}
