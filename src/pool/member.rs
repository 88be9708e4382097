//! A host within a pool: its configuration there, its tier, and its state.

mod ejection;
mod health;
mod peer_template;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::HeaderValue;
use pingora::upstreams::peer::HttpPeer;

use super::host_origin::HostOrigin;
use super::host_status::StatusDetails;
use super::outlier_detector::OutlierDetector;
use super::tiers::{Tier, TierInputs};
use super::{HealthVerdict, HostCounters, LastMinute};
use crate::config;
use crate::host_tls::HostTls;
use ballast_balancer::Host;

pub(super) use peer_template::PeerTemplate;
pub(crate) use peer_template::ca_type;

/// A host within a pool.
#[derive(Debug)]
pub struct Member {
    host: Arc<Host>,
    /// The same host with a weight of at least 1, for when a drained host is the last resort.
    last_resort: Arc<Host>,
    peer: Arc<HttpPeer>,
    tls: Option<HostTls>,
    proxy_protocol: Option<config::ProxyProtocolVersion>,
    host_header: HeaderValue,
    backup: bool,
    /// Whether the host counts as healthy before its first check.
    presumed_healthy: bool,
    /// Locked by checks only, never on the path of a request.
    verdict: Mutex<Option<HealthVerdict>>,
    /// Locked by checks only, never on the path of a request.
    next_check: Mutex<Option<Instant>>,
    /// Set by an operator.
    drained: AtomicBool,
    /// Written by the pool's reconciliation only.
    tier: AtomicU8,
    outlier_detector: Mutex<OutlierDetector>,
    /// Whether an ejection is over and the host waits for a probe.
    due: AtomicBool,
    epoch: AtomicU32,
    /// Whether the host has asked for HTTP/1.1 on a connection of HTTP/2.
    prefers_http1: AtomicBool,
    successes: AtomicU64,
    /// For people; no request depends on it.
    status_details: Mutex<StatusDetails>,
    /// The weight in the file; `None` if an operator added the host.
    file_weight: Option<u32>,
    /// The display name.
    label: Option<String>,
    origin: HostOrigin,
    counters: Arc<HostCounters>,
    /// Of the attempts; shared with the same host in the pool that this one replaces.
    pub(super) last_minute: Arc<LastMinute>,
}

impl Member {
    pub(super) fn new(
        host: Arc<Host>,
        counters: Arc<HostCounters>,
        configured: &config::Host,
        peer_template: &PeerTemplate<'_>,
    ) -> Result<Self, String> {
        let last_resort = match host.weight() {
            0 => Arc::new(host.with_weight(1).map_err(|error| error.to_string())?),
            _ => Arc::clone(&host),
        };
        let peer = peer_template.peer(configured)?;
        Ok(Member {
            tls: peer_template.tls(&peer),
            peer: Arc::new(peer),
            proxy_protocol: peer_template.proxy_protocol,
            host_header: HeaderValue::from_str(&configured.authority())
                .map_err(|_| format!("host `{}` is not a valid Host field value", configured.id))?,
            host,
            last_resort,
            backup: configured.backup,
            presumed_healthy: peer_template.presumed_healthy,
            verdict: Mutex::new(None),
            next_check: Mutex::new(None),
            drained: AtomicBool::new(false),
            tier: AtomicU8::new(Tier::Out as u8),
            outlier_detector: Mutex::new(OutlierDetector::new(Instant::now())),
            due: AtomicBool::new(false),
            epoch: AtomicU32::new(0),
            prefers_http1: AtomicBool::new(false),
            successes: AtomicU64::new(0),
            status_details: Mutex::new(StatusDetails::new()),
            file_weight: configured.file_weight,
            label: configured.label.clone(),
            origin: HostOrigin::of(configured),
            last_minute: Arc::new(LastMinute::new(counters.counts())),
            counters,
        })
    }

    /// Identity, address, weight and live state.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// How Pingora connects to the host, with all timeouts; cloned for each request. If connections begin with a PROXY header,
    /// these begin with that of no client, and a request puts its own in the place of it.
    pub fn peer(&self) -> &Arc<HttpPeer> {
        &self.peer
    }

    /// TLS to the host; `None`: connections are plain.
    pub(crate) fn tls(&self) -> Option<&HostTls> {
        self.tls.as_ref()
    }

    /// The version of the PROXY header with which connections to the host begin.
    pub fn proxy_protocol(&self) -> Option<config::ProxyProtocolVersion> {
        self.proxy_protocol
    }

    /// Whether the host has asked for HTTP/1.1 on a connection of HTTP/2. Pingora remembers that by connection key, of which
    /// each client has its own if connections begin with a PROXY header, and it forgets none of them.
    pub fn prefers_http1(&self) -> bool {
        self.prefers_http1.load(Ordering::Relaxed)
    }

    /// The host has asked for HTTP/1.1 on a connection of HTTP/2.
    pub fn prefer_http1(&self) {
        self.prefers_http1.store(true, Ordering::Relaxed);
    }

    /// The host's own `host:port`, or `localhost` for a Unix socket, as a Host field.
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// The same as text.
    pub fn authority(&self) -> &str {
        // It was made from a string.
        self.host_header.to_str().unwrap_or_default()
    }

    /// Whether the host is used only while no primary host is usable.
    pub fn is_backup(&self) -> bool {
        self.backup
    }

    /// Whether an operator drained the host, or its weight is 0. New requests avoid it.
    pub fn is_draining(&self) -> bool {
        self.host.weight() == 0 || self.is_drained()
    }

    /// Whether an operator drained the host.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::SeqCst)
    }

    /// Drains the host or undoes that; returns the previous setting.
    pub(super) fn set_drained(&self, drained: bool) -> bool {
        self.drained.swap(drained, Ordering::SeqCst)
    }

    /// The weight in the file, which an operator may have overridden; `None` if an operator added the host.
    pub fn file_weight(&self) -> Option<u32> {
        self.file_weight
    }

    /// The display name; `None` if people know it by its identity.
    pub(super) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Where the host comes from.
    pub(super) fn origin(&self) -> &HostOrigin {
        &self.origin
    }

    /// Counters of attempts, checks and ejections.
    pub fn counters(&self) -> &HostCounters {
        &self.counters
    }

    pub(super) fn tier_inputs(&self) -> TierInputs {
        TierInputs {
            healthy: self.is_healthy(),
            ejected: self.is_ejected(),
            draining: self.is_draining(),
            backup: self.backup,
        }
    }

    /// Whether new requests may go to the host.
    pub fn is_usable(&self) -> bool {
        matches!(self.tier(), Tier::Primary | Tier::Backup)
    }

    pub(super) fn tier(&self) -> Tier {
        Tier::from_number(self.tier.load(Ordering::Relaxed))
    }

    pub(super) fn set_tier(&self, tier: Tier) {
        self.tier.store(tier as u8, Ordering::Relaxed);
    }

    /// The host as a member of a tier's balancer.
    pub(super) fn host_in(&self, tier: Tier) -> Arc<Host> {
        Arc::clone(match tier {
            Tier::Draining => &self.last_resort,
            _ => &self.host,
        })
    }
}
