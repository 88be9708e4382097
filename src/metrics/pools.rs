//! The series of pools and hosts that serve.

use std::sync::Arc;

use prometheus::proto::MetricFamily;

use super::counters::MetricsCounters;
use super::family::Family;
use super::series::{HostSeries, PoolSeries, RequestSeries};
use crate::balancer::HostId;
use crate::pool::{Member, Pool};

/// The value of the label `host` for requests that no host got, and of `pool` for those that no route has: to Prometheus,
/// the same as no label.
const NONE: &str = "";

/// The value of the label `host` where all hosts of a pool are told of together.
const ALL: &str = "*";

/// Every family with a label `pool`, of the pools that serve. `brief`: by host only what is told in less than 10 lines,
/// and the rest of all hosts together. Each series means the same either way, or is not there.
pub(super) fn families(
    pools: &[Arc<Pool>],
    counts: &MetricsCounters,
    brief: bool,
) -> Vec<MetricFamily> {
    let mut requests = RequestFamilies::new();
    requests.put(NONE, NONE, counts.unrouted());
    let mut of_pools = PoolFamilies::new();
    let mut of_hosts = HostFamilies::new();
    let mut states = StateFamilies::new();
    let mut series = counts.series().lock();
    for pool in pools {
        let name = pool.name();
        let counters = series.pool(name);
        requests.put(name, NONE, &counters.without_host);
        of_pools.put(pool, &counters);
        for member in pool.members() {
            let host = member.host().id();
            let counters = series.host(name, host);
            states.put(pool, member, &counters);
            if !brief {
                requests.put(name, host.as_str(), &counters.requests);
                of_hosts.put(name, host.as_str(), &counters);
                of_hosts.put_checks(name, host, member);
            }
        }
    }
    if brief {
        let sums = series.sums();
        for pool in pools {
            if let Some(counters) = sums.get(pool.name()) {
                requests.put(pool.name(), ALL, &counters.requests);
                of_hosts.put(pool.name(), ALL, counters);
            }
        }
    }
    let mut families = Vec::new();
    families.extend(requests.into_families());
    families.extend(of_pools.into_families());
    families.extend(of_hosts.into_families());
    families.extend(states.into_families());
    families
}

/// Clients' requests, each counted once.
struct RequestFamilies {
    requests: Family<3>,
    took: Family<2>,
}

impl RequestFamilies {
    fn new() -> Self {
        RequestFamilies {
            requests: Family::counter(
                "ballast_requests_total",
                "Requests of clients that have ended, each counted once, by its pool, the host of its last attempt and the \
                 status that the client got: 429, 500, 502, 503 and 504 by themselves, others as their class.",
                ["pool", "host", "code"],
            ),
            took: Family::histogram(
                "ballast_request_duration_seconds",
                "Time from the head of a request to its end.",
                ["pool", "host"],
            ),
        }
    }

    fn put(&mut self, pool: &str, host: &str, counted: &RequestSeries) {
        for (code, count) in counted.by_code() {
            self.requests.put([pool, host, code], count as f64);
        }
        self.took.put_durations([pool, host], &counted.took.read());
    }

    fn into_families(self) -> [MetricFamily; 2] {
        [self.requests.into(), self.took.into()]
    }
}

/// What is counted by pool.
struct PoolFamilies {
    retries: Family<1>,
    denied: Family<1>,
    balance: Family<1>,
    received: Family<1>,
    sent: Family<1>,
    queue: Family<1>,
}

impl PoolFamilies {
    fn new() -> Self {
        PoolFamilies {
            retries: Family::counter(
                "ballast_retries_total",
                "Attempts beyond the first of each request.",
                ["pool"],
            ),
            denied: Family::counter(
                "ballast_retries_denied_total",
                "Retries that the budget did not allow.",
                ["pool"],
            ),
            balance: Family::gauge(
                "ballast_retry_budget",
                "Retries that the budget has left.",
                ["pool"],
            ),
            received: Family::counter(
                "ballast_received_bytes_total",
                "Bytes of requests' bodies.",
                ["pool"],
            ),
            sent: Family::counter(
                "ballast_sent_bytes_total",
                "Bytes of the bodies of answers to clients.",
                ["pool"],
            ),
            queue: Family::gauge(
                "ballast_queue_length",
                "Requests that wait because every host is full.",
                ["pool"],
            ),
        }
    }

    fn put(&mut self, pool: &Pool, counters: &PoolSeries) {
        let name = [pool.name()];
        self.retries.put(name, counters.retries.get() as f64);
        if let Some(budget) = pool.budget() {
            self.denied.put(name, budget.counts().denied as f64);
            self.balance.put(name, budget.balance());
        }
        self.received.put(name, counters.received.get() as f64);
        self.sent.put(name, counters.sent.get() as f64);
        self.queue.put(name, pool.waiting() as f64);
    }

    fn into_families(self) -> [MetricFamily; 6] {
        [
            self.retries.into(),
            self.denied.into(),
            self.balance.into(),
            self.received.into(),
            self.sent.into(),
            self.queue.into(),
        ]
    }
}

/// What is counted by host, or by pool where there are too many hosts.
struct HostFamilies {
    attempts: Family<3>,
    connect: Family<2>,
    first_byte: Family<2>,
    checks: Family<3>,
}

impl HostFamilies {
    fn new() -> Self {
        HostFamilies {
            attempts: Family::counter(
                "ballast_attempts_total",
                "Tries of requests at hosts that have ended, by how they did.",
                ["pool", "host", "reason"],
            ),
            connect: Family::histogram(
                "ballast_connect_duration_seconds",
                "Time to make a new connection to a host, TLS included.",
                ["pool", "host"],
            ),
            first_byte: Family::histogram(
                "ballast_first_byte_duration_seconds",
                "Time from the begin of an attempt to the head of the host's answer.",
                ["pool", "host"],
            ),
            checks: Family::counter(
                "ballast_checks_total",
                "Health checks that have finished.",
                ["pool", "host", "outcome"],
            ),
        }
    }

    fn put(&mut self, pool: &str, host: &str, counters: &HostSeries) {
        for (reason, count) in counters.attempts() {
            self.attempts.put([pool, host, reason], count as f64);
        }
        let labels = [pool, host];
        self.connect.put_durations(labels, &counters.connect.read());
        self.first_byte
            .put_durations(labels, &counters.first_byte.read());
    }

    fn put_checks(&mut self, pool: &str, host: &HostId, member: &Member) {
        let host = host.as_str();
        for (outcome, count) in member.counters().checks() {
            self.checks.put([pool, host, outcome.code()], count as f64);
        }
    }

    fn into_families(self) -> [MetricFamily; 4] {
        [
            self.attempts.into(),
            self.connect.into(),
            self.first_byte.into(),
            self.checks.into(),
        ]
    }
}

/// What is told of each host however many there are: less than 10 lines.
struct StateFamilies {
    requests: Family<2>,
    failures: Family<2>,
    ejections: Family<2>,
    in_flight: Family<2>,
    weight: Family<2>,
    healthy: Family<2>,
    ejected: Family<2>,
    draining: Family<2>,
    serving: Family<2>,
}

impl StateFamilies {
    fn new() -> Self {
        let of = |name, help| Family::gauge(name, help, ["pool", "host"]);
        let counter = |name, help| Family::counter(name, help, ["pool", "host"]);
        StateFamilies {
            requests: counter(
                "ballast_host_requests_total",
                "Requests of clients that have ended, by the host of their last attempt, whatever their status.",
            ),
            failures: counter(
                "ballast_host_failures_total",
                "Attempts that a host failed.",
            ),
            ejections: counter(
                "ballast_ejections_total",
                "Times that a host was left alone because it failed requests.",
            ),
            in_flight: of(
                "ballast_host_in_flight",
                "Requests that run on a host, those included that came through other pools.",
            ),
            weight: of("ballast_host_weight", "The share of requests of a host."),
            healthy: of(
                "ballast_host_healthy",
                "1 if a host works as far as the checks know, else 0.",
            ),
            ejected: of(
                "ballast_host_ejected",
                "1 if a host is left alone because it failed requests, else 0.",
            ),
            draining: of(
                "ballast_host_draining",
                "1 if new requests keep away from a host by the wish of whoever runs it, else 0.",
            ),
            serving: of(
                "ballast_host_serving",
                "1 if new requests may go to a host now, else 0.",
            ),
        }
    }

    fn put(&mut self, pool: &Pool, member: &Member, counters: &HostSeries) {
        let host = member.host();
        let labels = [pool.name(), host.id().as_str()];
        self.requests.put(labels, counters.requests.total() as f64);
        self.failures.put(labels, counters.failures() as f64);
        self.ejections
            .put(labels, member.counters().ejections() as f64);
        let flag = |set: bool| f64::from(u8::from(set));
        self.in_flight.put(labels, host.in_flight() as f64);
        self.weight.put(labels, f64::from(host.weight()));
        self.healthy.put(labels, flag(member.is_healthy()));
        self.ejected.put(labels, flag(member.is_ejected()));
        self.draining.put(labels, flag(member.is_draining()));
        self.serving.put(labels, flag(pool.serves(member)));
    }

    fn into_families(self) -> [MetricFamily; 9] {
        [
            self.requests.into(),
            self.failures.into(),
            self.ejections.into(),
            self.in_flight.into(),
            self.weight.into(),
            self.healthy.into(),
            self.ejected.into(),
            self.draining.into(),
            self.serving.into(),
        ]
    }
}
