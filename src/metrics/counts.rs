//! What is counted, whichever site serves: counts go on over a reload.

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::book::Book;
use super::observer::SiteObserver;
use super::tally::Requests;
use crate::pool::Pool;
use crate::record::{Ending, Observer, Record};

/// Why a connection is turned away before it can bring a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
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
pub enum Handshake<'a> {
    /// The version of the protocol that was agreed on.
    Done(&'a str),
    /// Client and server did not agree, or the client left.
    Failed,
    /// It took too long.
    Late,
}

/// How the configuration was to be taken in anew, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
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

impl Reload {
    const ALL: [Reload; 5] = [
        Reload::InPlace,
        Reload::InPlaceFailed,
        Reload::NeedsProcess,
        Reload::Handover,
        Reload::HandoverFailed,
    ];

    fn labels(self) -> [&'static str; 2] {
        match self {
            Reload::InPlace => ["in_place", "ok"],
            Reload::InPlaceFailed => ["in_place", "failed"],
            Reload::NeedsProcess => ["in_place", "needs_process"],
            Reload::Handover => ["handover", "ok"],
            Reload::HandoverFailed => ["handover", "failed"],
        }
    }
}

impl Turned {
    const ALL: [Turned; 4] = [
        Turned::Denied,
        Turned::TooMany,
        Turned::NoTls,
        Turned::NoProxyHeader,
    ];

    fn label(self) -> &'static str {
        match self {
            Turned::Denied => "connection_denied",
            Turned::TooMany => "connection_limit",
            Turned::NoTls => "tls",
            Turned::NoProxyHeader => "proxy_header",
        }
    }
}

/// A request whose head did not come in time, unlike one whose body did not.
const HEAD_TIMEOUT: &str = "head_timeout";

/// Everything that is counted.
#[derive(Debug)]
pub struct Counts {
    book: Book,
    /// Requests that no route has, or of which no head came.
    unrouted: Requests,
    registry: Registry,
    connections: IntCounterVec,
    rejects: IntCounterVec,
    /// Those of them that end requests, by the number of the ending.
    refusals: [Option<IntCounter>; Ending::ALL.len()],
    late_heads: IntCounter,
    handshakes: IntCounterVec,
    reloads: IntCounterVec,
}

impl Default for Counts {
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
        for reload in Reload::ALL {
            reloads.with_label_values(&reload.labels());
        }
        for turned in Turned::ALL {
            rejects.with_label_values(&[turned.label()]);
        }
        Counts {
            book: Book::default(),
            unrouted: Requests::default(),
            refusals: Ending::ALL.map(|ending| {
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

impl Counts {
    /// Counts the requests of a site with these pools. Pools and hosts that keep their names keep their counts.
    pub fn observer(self: &Arc<Self>, pools: &[Arc<Pool>]) -> Arc<dyn Observer> {
        Arc::new(SiteObserver::new(self, pools))
    }

    /// The count of connections that come through a listener.
    pub fn listener(&self, address: SocketAddr) -> IntCounter {
        self.connections.with_label_values(&[&address.to_string()])
    }

    /// A connection was turned away.
    pub fn turn_away(&self, turned: Turned) {
        self.rejects.with_label_values(&[turned.label()]).inc();
    }

    /// A TLS handshake has ended. One that fails is a connection turned away as well.
    pub fn shake_hands(&self, handshake: Handshake<'_>) {
        let labels = match handshake {
            Handshake::Done(version) => ["ok", version],
            Handshake::Failed => ["failed", ""],
            Handshake::Late => ["timeout", ""],
        };
        self.handshakes.with_label_values(&labels).inc();
        if !matches!(handshake, Handshake::Done(_)) {
            self.turn_away(Turned::NoTls);
        }
    }

    /// A reload has ended.
    pub fn reloaded(&self, reload: Reload) {
        self.reloads.with_label_values(&reload.labels()).inc();
    }

    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    pub(super) fn unrouted(&self) -> &Requests {
        &self.unrouted
    }

    /// Notes why a request was refused, if it was.
    pub(super) fn refused(&self, record: &Record<'_>) {
        let headless = record.request.is_none() && record.pool.is_none();
        if headless && record.summary.ending == Ending::ClientTimeout {
            self.late_heads.inc();
        } else if let Some(refusals) = &self.refusals[record.summary.ending as usize] {
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
        for (number, ending) in Ending::ALL.into_iter().enumerate() {
            assert_eq!(ending as usize, number, "{ending:?}");
        }
    }

    #[test]
    fn what_was_never_seen_is_told_as_none() {
        let counts = Counts::default();
        let families = counts.gather();
        let of = |name: &str| {
            let mut families = families.iter();
            let family = families.find(|family| family.name() == name);
            family.map_or(0, |family| family.get_metric().len())
        };
        assert_eq!(of("ballast_reloads_total"), Reload::ALL.len());
        let refusals = Ending::ALL.into_iter().filter(|ending| ending.is_refusal());
        assert_eq!(
            of("ballast_rejects_total"),
            refusals.count() + Turned::ALL.len() + 1
        );
    }
}
