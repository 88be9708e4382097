//! What is counted, whichever site serves: counts go on over a reload.

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::observer::SiteObserver;
use super::series::RequestSeries;
use super::series_registry::SeriesRegistry;
use crate::pool::Pool;
use crate::record::{Observer, RequestRecord, TerminationReason};

/// Why a connection is turned away before it can bring a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// Its listener is not there for its address.
    Denied,
    /// Its client has as many as it may.
    TooMany,
    /// There was no TLS handshake.
    NoTls,
    /// Its proxy has not said whom it is for.
    NoProxyHeader,
}

/// How a client's TLS handshake went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeOutcome<'a> {
    /// The version of the protocol that was agreed on.
    Done(&'a str),
    /// Client and server did not agree, or the client left.
    Failed,
    /// It took too long.
    TimedOut,
}

/// How the configuration was to be taken in anew, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// This process has done it.
    InPlace,
    /// This process has not; everything stays as it was.
    InPlaceFailed,
    /// This process cannot: another one has to.
    NeedsProcess,
    /// Another process has taken over.
    Handover,
    /// None has; this one serves on.
    HandoverFailed,
}

impl ReloadOutcome {
    const ALL: [ReloadOutcome; 5] = [
        ReloadOutcome::InPlace,
        ReloadOutcome::InPlaceFailed,
        ReloadOutcome::NeedsProcess,
        ReloadOutcome::Handover,
        ReloadOutcome::HandoverFailed,
    ];

    fn labels(self) -> [&'static str; 2] {
        match self {
            ReloadOutcome::InPlace => ["in_place", "ok"],
            ReloadOutcome::InPlaceFailed => ["in_place", "failed"],
            ReloadOutcome::NeedsProcess => ["in_place", "needs_process"],
            ReloadOutcome::Handover => ["handover", "ok"],
            ReloadOutcome::HandoverFailed => ["handover", "failed"],
        }
    }
}

impl RejectReason {
    const ALL: [RejectReason; 4] = [
        RejectReason::Denied,
        RejectReason::TooMany,
        RejectReason::NoTls,
        RejectReason::NoProxyHeader,
    ];

    fn label(self) -> &'static str {
        match self {
            RejectReason::Denied => "connection_denied",
            RejectReason::TooMany => "connection_limit",
            RejectReason::NoTls => "tls",
            RejectReason::NoProxyHeader => "proxy_header",
        }
    }
}

/// A request whose head did not come in time, unlike one whose body did not.
const HEAD_TIMEOUT: &str = "head_timeout";

/// Everything that is counted.
#[derive(Debug)]
pub struct MetricsCounters {
    series: SeriesRegistry,
    /// Requests that no route has, or of which no head came.
    unrouted: RequestSeries,
    registry: Registry,
    connections: IntCounterVec,
    rejects: IntCounterVec,
    /// Those of them that end requests, by the number of the ending.
    refusals: [Option<IntCounter>; TerminationReason::ALL.len()],
    late_heads: IntCounter,
    handshakes: IntCounterVec,
    reloads: IntCounterVec,
}

impl Default for MetricsCounters {
    /// Nothing counted yet.
    fn default() -> Self {
        let registry = Registry::new();
        let counters = |name, help, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels);
            let counters = counters.expect("the names are valid");
            let registered = registry.register(Box::new(counters.clone()));
            registered.expect("each name stands here once");
            counters
        };
        let connections = counters(
            "ballast_connections_total",
            "Connections that were accepted.",
            &["listener"],
        );
        let rejects = counters(
            "ballast_rejects_total",
            "Requests and connections that were turned away without asking a host.",
            &["reason"],
        );
        let handshakes = counters(
            "ballast_tls_handshakes_total",
            "TLS handshakes of clients.",
            &["outcome", "version"],
        );
        let reloads = counters(
            "ballast_reloads_total",
            "Attempts to take in the configuration anew.",
            &["way", "outcome"],
        );
        // Whoever watches for the first of something needs to see that there was none before.
        for reload in ReloadOutcome::ALL {
            reloads.with_label_values(&reload.labels());
        }
        for reason in RejectReason::ALL {
            rejects.with_label_values(&[reason.label()]);
        }
        MetricsCounters {
            series: SeriesRegistry::default(),
            unrouted: RequestSeries::default(),
            refusals: TerminationReason::ALL.map(|ending| {
                let refusal = ending.is_refusal();
                refusal.then(|| rejects.with_label_values(&[ending.code()]))
            }),
            late_heads: rejects.with_label_values(&[HEAD_TIMEOUT]),
            registry,
            connections,
            rejects,
            handshakes,
            reloads,
        }
    }
}

impl MetricsCounters {
    /// Counts the requests of a site with these pools. Pools and hosts that keep their names keep their counts.
    pub fn observer(self: &Arc<Self>, pools: &[Arc<Pool>]) -> Arc<dyn Observer> {
        Arc::new(SiteObserver::new(self, pools))
    }

    /// The count of connections that come through a listener.
    pub fn listener(&self, address: SocketAddr) -> IntCounter {
        self.connections.with_label_values(&[&address.to_string()])
    }

    /// A connection was turned away.
    pub fn count_reject(&self, reason: RejectReason) {
        self.rejects.with_label_values(&[reason.label()]).inc();
    }

    /// A TLS handshake has ended. One that fails is a connection turned away as well.
    pub fn count_handshake(&self, handshake: HandshakeOutcome<'_>) {
        let labels = match handshake {
            HandshakeOutcome::Done(version) => ["ok", version],
            HandshakeOutcome::Failed => ["failed", ""],
            HandshakeOutcome::TimedOut => ["timeout", ""],
        };
        self.handshakes.with_label_values(&labels).inc();
        if !matches!(handshake, HandshakeOutcome::Done(_)) {
            self.count_reject(RejectReason::NoTls);
        }
    }

    /// A reload has ended.
    pub fn count_reload(&self, reload: ReloadOutcome) {
        self.reloads.with_label_values(&reload.labels()).inc();
    }

    pub(super) fn series(&self) -> &SeriesRegistry {
        &self.series
    }

    pub(super) fn unrouted(&self) -> &RequestSeries {
        &self.unrouted
    }

    /// Notes why a request was refused, if it was.
    pub(super) fn refused(&self, record: &RequestRecord<'_>) {
        let headless = record.request.is_none() && record.pool.is_none();
        if headless && record.summary.termination == TerminationReason::ClientTimeout {
            self.late_heads.inc();
        } else if let Some(refusals) = &self.refusals[record.summary.termination as usize] {
            refusals.inc();
        }
    }

    /// What is counted of the process as a whole.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_numbered_in_their_order() {
        for (number, ending) in TerminationReason::ALL.into_iter().enumerate() {
            assert_eq!(ending as usize, number, "{ending:?}");
        }
    }

    #[test]
    fn what_was_never_seen_is_told_as_none() {
        let counts = MetricsCounters::default();
        let families = counts.gather();
        let of = |name: &str| {
            let mut families = families.iter();
            let family = families.find(|family| family.name() == name);
            family.map_or(0, |family| family.get_metric().len())
        };
        assert_eq!(of("ballast_reloads_total"), ReloadOutcome::ALL.len());
        let refusals = TerminationReason::ALL
            .into_iter()
            .filter(|ending| ending.is_refusal());
        assert_eq!(
            of("ballast_rejects_total"),
            refusals.count() + RejectReason::ALL.len() + 1
        );
    }
}
