//! The families by pool and host.

use std::sync::Arc;

use prometheus::proto::MetricFamily;

use super::counters::MetricsCounters;
use super::family::Family;
use super::series::{HostSeries, RequestSeries};
use crate::pool::{Member, Pool};
use ballast_balancer::HostId;

/// The value of the label `host` for requests without a host, and of `pool` for those without a route. To Prometheus,
/// an empty label is the same as none.
const NONE: &str = "";

/// The value of the label `host` for the sum over all hosts of a pool.
const ALL: &str = "*";

/// All families with the label `pool`, for the active pools. With `brief`, each host has fewer than 10 series, and the
/// others are sums over all hosts. A series means the same in both modes, or is absent.
pub(super) fn families(
    pools: &[Arc<Pool>],
    counts: &MetricsCounters,
    brief: bool,
) -> Vec<MetricFamily> {
    let mut requests = RequestFamilies::new();
    requests.put(NONE, NONE, counts.unrouted());
    let mut pool_families = PoolFamilies::new();
    let mut host_families = HostFamilies::new();
    let mut state_families = StateFamilies::new();
    let mut series = counts.series().lock();
    for pool in pools {
        let name = pool.name();
        requests.put(name, NONE, &series.without_host(name));
        pool_families.put(pool);
        for member in pool.members() {
            let host = member.host().id();
            let counters = series.host(name, host);
            state_families.put(pool, member, &counters);
            if !brief {
                requests.put(name, host.as_str(), &counters.requests);
                host_families.put(name, host.as_str(), &counters);
                host_families.put_checks(name, host, member);
            }
        }
    }
    if brief {
        let sums = series.sums();
        for pool in pools {
            if let Some(counters) = sums.get(pool.name()) {
                requests.put(pool.name(), ALL, &counters.requests);
                host_families.put(pool.name(), ALL, counters);
            }
        }
    }
    let mut families = Vec::new();
    families.extend(requests.into_families());
    families.extend(pool_families.into_families());
    families.extend(host_families.into_families());
    families.extend(state_families.into_families());
    families
}

/// Families of clients' requests, each counted once.
struct RequestFamilies {
    requests: Family<3>,
    duration: Family<2>,
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
            duration: Family::histogram(
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
        self.duration
            .put_durations([pool, host], &counted.duration.read());
    }

    fn into_families(self) -> [MetricFamily; 2] {
        [self.requests.into(), self.duration.into()]
    }
}

/// Families by pool.
struct PoolFamilies {
    retries: Family<1>,
    denied: Family<1>,
    balance: Family<1>,
    received: Family<1>,
    sent: Family<1>,
    queue: Family<1>,
    maintenance: Family<1>,
    grpc: Family<2>,
    copies: Family<2>,
    copies_in_flight: Family<1>,
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
                "Retries that the budget denied.",
                ["pool"],
            ),
            balance: Family::gauge(
                "ballast_retry_budget",
                "Retries that the budget has left.",
                ["pool"],
            ),
            received: Family::counter(
                "ballast_received_bytes_total",
                "Body bytes of requests.",
                ["pool"],
            ),
            sent: Family::counter(
                "ballast_sent_bytes_total",
                "Body bytes of responses to clients.",
                ["pool"],
            ),
            queue: Family::gauge(
                "ballast_queue_length",
                "Requests that wait because every host is full.",
                ["pool"],
            ),
            maintenance: Family::gauge(
                "ballast_pool_maintenance",
                "1 if the clients of a pool get 503 because it is in maintenance, else 0.",
                ["pool"],
            ),
            grpc: Family::counter(
                "ballast_grpc_requests_total",
                "Calls of gRPC that have ended with a status, by its name. They count as requests as well.",
                ["pool", "status"],
            ),
            copies: Family::counter(
                "ballast_mirrored_requests_total",
                "Copies of requests for a pool that mirrors others, by outcome. They count in no family of requests.",
                ["pool", "outcome"],
            ),
            copies_in_flight: Family::gauge(
                "ballast_mirrored_in_flight",
                "Copies of requests in flight to a pool.",
                ["pool"],
            ),
        }
    }

    fn put(&mut self, pool: &Pool) {
        let name = [pool.name()];
        let totals = pool.counters().totals();
        self.retries.put(name, totals.retries as f64);
        if let Some(budget) = pool.budget() {
            self.denied.put(name, totals.denied_retries as f64);
            self.balance.put(name, budget.balance());
        }
        self.received.put(name, totals.received as f64);
        self.sent.put(name, totals.sent as f64);
        self.queue.put(name, pool.waiting() as f64);
        let maintenance = pool.maintenance().is_some();
        self.maintenance.put(name, f64::from(u8::from(maintenance)));
        for (status, count) in pool.counters().grpc() {
            self.grpc.put([pool.name(), status.name()], count as f64);
        }
        if let Some(copies) = pool.counters().copies() {
            for (outcome, count) in copies.outcomes() {
                self.copies.put([pool.name(), outcome.code()], count as f64);
            }
            self.copies_in_flight.put(name, copies.in_flight() as f64);
        }
    }

    fn into_families(self) -> [MetricFamily; 10] {
        [
            self.retries.into(),
            self.grpc.into(),
            self.denied.into(),
            self.balance.into(),
            self.received.into(),
            self.sent.into(),
            self.queue.into(),
            self.maintenance.into(),
            self.copies.into(),
            self.copies_in_flight.into(),
        ]
    }
}

/// Families by host, or by pool in brief mode.
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
                "Attempts at hosts that have ended, by outcome.",
                ["pool", "host", "reason"],
            ),
            connect: Family::histogram(
                "ballast_connect_duration_seconds",
                "Time to make a new connection to a host, TLS included.",
                ["pool", "host"],
            ),
            first_byte: Family::histogram(
                "ballast_first_byte_duration_seconds",
                "Time from the begin of an attempt to the head of the host's response.",
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

/// Families by host in both modes: fewer than 10 series.
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
        let gauge = |name, help| Family::gauge(name, help, ["pool", "host"]);
        let counter = |name, help| Family::counter(name, help, ["pool", "host"]);
        StateFamilies {
            requests: counter(
                "ballast_host_requests_total",
                "Requests of clients that have ended, by the host of their last attempt, regardless of their status.",
            ),
            failures: counter(
                "ballast_host_failures_total",
                "Attempts that a host failed.",
            ),
            ejections: counter(
                "ballast_ejections_total",
                "Ejections of a host because it failed requests.",
            ),
            in_flight: gauge(
                "ballast_host_in_flight",
                "Requests in flight on a host, including those of other pools.",
            ),
            weight: gauge(
                "ballast_host_weight",
                "The weight of a host relative to the others of its pool.",
            ),
            healthy: gauge(
                "ballast_host_healthy",
                "1 if the health checks of a host succeed, else 0.",
            ),
            ejected: gauge(
                "ballast_host_ejected",
                "1 if a host is ejected because it failed requests, else 0.",
            ),
            draining: gauge(
                "ballast_host_draining",
                "1 if an operator drained a host or its weight is 0, else 0.",
            ),
            serving: gauge(
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
