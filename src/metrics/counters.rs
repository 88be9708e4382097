//! The counters of the process. They survive reloads.

use std::sync::Arc;

use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::observer::MetricsObserver;
use super::outcomes::{
    CertificateOutcome, ClusterChangeOutcome, HandshakeOutcome, OrderOutcome, RejectReason,
    ReloadOutcome,
};
use super::series::RequestSeries;
use super::series_registry::SeriesRegistry;
use crate::config::ListenerAddress;
use crate::pool::Pool;
use crate::record::{Observer, RequestRecord, TerminationReason};

/// Counts the session tickets that clients bring back.
#[derive(Debug, Clone)]
pub struct TicketCounters {
    accepted: IntCounter,
    refused: IntCounter,
}

impl TicketCounters {
    /// Counts a ticket, by whether it could be opened.
    pub fn count(&self, is_accepted: bool) {
        match is_accepted {
            true => self.accepted.inc(),
            false => self.refused.inc(),
        }
    }
}

/// The reason for a request whose head timed out, unlike its body.
const HEAD_TIMEOUT: &str = "head_timeout";

/// All counters.
#[derive(Debug)]
pub struct MetricsCounters {
    series: SeriesRegistry,
    /// Requests without a route, or without a complete head.
    unrouted: RequestSeries,
    registry: Registry,
    connections: IntCounterVec,
    rejects: IntCounterVec,
    /// The entries of `rejects` for requests, by the number of their termination reason.
    refusals: [Option<IntCounter>; TerminationReason::ALL.len()],
    head_timeouts: IntCounter,
    handshakes: IntCounterVec,
    reloads: IntCounterVec,
    certificates: IntCounterVec,
    orders: IntCounterVec,
    cluster_changes: IntCounterVec,
    tickets: TicketCounters,
}

impl Default for MetricsCounters {
    /// All counters at 0.
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
            "Accepted connections.",
            &["listener"],
        );
        let rejects = counters(
            "ballast_rejects_total",
            "Requests and connections that were rejected without an attempt at a host.",
            &["reason"],
        );
        let handshakes = counters(
            "ballast_tls_handshakes_total",
            "TLS handshakes of clients.",
            &["outcome", "version"],
        );
        let reloads = counters(
            "ballast_reloads_total",
            "Attempts to reload the configuration.",
            &["way", "outcome"],
        );
        let certificates = counters(
            "ballast_certificate_changes_total",
            "Changed files of TLS that were taken in, or refused; a refused one counts again with another reason.",
            &["outcome"],
        );
        let orders = counters(
            "ballast_acme_orders_total",
            "Orders for certificates by ACME; one that fails for several certificates at once counts once.",
            &["outcome"],
        );
        let cluster_changes = counters(
            "ballast_cluster_changes_total",
            "Changes by operators on this member, by whether the cluster has them.",
            &["outcome"],
        );
        let tickets = counters(
            "ballast_tls_tickets_total",
            "TLS session tickets that clients brought back; a refused one is too old, or of another process.",
            &["outcome"],
        );
        // Series start at 0, so that an alert sees the first event.
        for outcome in CertificateOutcome::ALL {
            certificates.with_label_values(&[outcome.label()]);
        }
        for outcome in OrderOutcome::ALL {
            orders.with_label_values(&[outcome.label()]);
        }
        for outcome in ClusterChangeOutcome::ALL {
            cluster_changes.with_label_values(&[outcome.label()]);
        }
        for reload in ReloadOutcome::ALL {
            reloads.with_label_values(&reload.labels());
        }
        for reason in RejectReason::ALL {
            rejects.with_label_values(&[reason.label()]);
        }
        MetricsCounters {
            series: SeriesRegistry::default(),
            unrouted: RequestSeries::default(),
            refusals: TerminationReason::ALL.map(|reason| {
                let refusal = reason.is_refusal();
                refusal.then(|| rejects.with_label_values(&[reason.code()]))
            }),
            head_timeouts: rejects.with_label_values(&[HEAD_TIMEOUT]),
            registry,
            connections,
            rejects,
            handshakes,
            reloads,
            certificates,
            orders,
            cluster_changes,
            tickets: TicketCounters {
                accepted: tickets.with_label_values(&["accepted"]),
                refused: tickets.with_label_values(&["refused"]),
            },
        }
    }
}

impl MetricsCounters {
    /// An observer for requests to these pools. Pools and hosts that keep their names keep their counts.
    pub fn observer(self: &Arc<Self>, pools: &[Arc<Pool>]) -> Arc<dyn Observer> {
        Arc::new(MetricsObserver::new(self, pools))
    }

    /// The counter of connections accepted by a listener.
    pub fn listener(&self, address: &ListenerAddress) -> IntCounter {
        self.connections.with_label_values(&[&address.to_string()])
    }

    /// Counts a rejected connection.
    pub fn count_reject(&self, reason: RejectReason) {
        self.rejects.with_label_values(&[reason.label()]).inc();
    }

    /// Counts a TLS handshake. A failed one also counts as a rejected connection.
    pub fn count_handshake(&self, handshake: HandshakeOutcome<'_>) {
        let labels = match handshake {
            HandshakeOutcome::Done(version) => ["ok", version],
            HandshakeOutcome::Failed => ["failed", ""],
            HandshakeOutcome::TimedOut => ["timeout", ""],
            HandshakeOutcome::TooMany => ["limit", ""],
        };
        self.handshakes.with_label_values(&labels).inc();
        if !matches!(handshake, HandshakeOutcome::Done(_)) {
            self.count_reject(RejectReason::NoTls);
        }
    }

    /// Counts an attempt to reload.
    pub fn count_reload(&self, reload: ReloadOutcome) {
        self.reloads.with_label_values(&reload.labels()).inc();
    }

    /// The counters of session tickets.
    pub fn tickets(&self) -> TicketCounters {
        self.tickets.clone()
    }

    /// Counts a changed certificate.
    pub fn count_certificate(&self, outcome: CertificateOutcome) {
        let labels = [outcome.label()];
        self.certificates.with_label_values(&labels).inc();
    }

    /// Counts an order for a certificate.
    pub fn count_order(&self, outcome: OrderOutcome) {
        self.orders.with_label_values(&[outcome.label()]).inc();
    }

    /// Counts a change by an operator that was to be shared with the cluster.
    pub fn count_cluster_change(&self, outcome: ClusterChangeOutcome) {
        let labels = [outcome.label()];
        self.cluster_changes.with_label_values(&labels).inc();
    }

    pub(super) fn series(&self) -> &SeriesRegistry {
        &self.series
    }

    pub(super) fn unrouted(&self) -> &RequestSeries {
        &self.unrouted
    }

    /// Counts the reason if the request was refused.
    pub(super) fn count_refusal(&self, record: &RequestRecord<'_>) {
        let without_head = record.request.is_none() && record.pool.is_none();
        if without_head && record.summary.termination == TerminationReason::ClientTimeout {
            self.head_timeouts.inc();
        } else if let Some(refusals) = &self.refusals[record.summary.termination as usize] {
            refusals.inc();
        }
    }

    /// The families that are not by pool or host.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn termination_reasons_are_numbered_in_order() {
        for (number, reason) in TerminationReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number, "{reason:?}");
        }
    }

    #[test]
    fn series_start_at_zero() {
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
            .filter(|reason| reason.is_refusal());
        assert_eq!(
            of("ballast_rejects_total"),
            refusals.count() + RejectReason::ALL.len() + 1
        );
    }
}
