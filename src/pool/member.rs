//! A host within a pool: how it is reached, and what is known of it there.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::HeaderValue;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};

use super::host_status::{CheckResult, HostState, StatusDetails};
use super::outlier_detector::{EjectionStage, OutlierDetector};
use super::request_counters::RequestCounters;
use super::tiers::{Tier, TierInputs};
use super::{HealthVerdict, HostCounters};
use crate::balancer::Host;
use crate::config;

/// A host within a pool.
#[derive(Debug)]
pub struct Member {
    host: Arc<Host>,
    /// The same with a weight of at least 1, for when a drained host is the last resort.
    last_resort: Arc<Host>,
    peer: Arc<HttpPeer>,
    host_header: HeaderValue,
    backup: bool,
    /// Whether it counts as healthy before its first check.
    presumed_healthy: bool,
    /// Touched by checks only, never on the path of a request.
    verdict: Mutex<Option<HealthVerdict>>,
    /// Touched by checks only as well.
    next_check: Mutex<Option<Instant>>,
    /// By an operator.
    drained: AtomicBool,
    /// Written by the pool's reconciliation only.
    tier: AtomicU8,
    outlier_detector: Mutex<OutlierDetector>,
    /// Whether the record waits for a probe.
    due: AtomicBool,
    epoch: AtomicU32,
    successes: AtomicU64,
    /// For people only.
    status_details: Mutex<StatusDetails>,
    pub(super) request_counters: Arc<RequestCounters>,
    /// The weight in the file; `None` if an operator has added the host.
    file_weight: Option<u32>,
    /// What people call it.
    label: Option<String>,
    counters: Arc<HostCounters>,
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
        Ok(Member {
            peer: Arc::new(peer_template.peer(configured)),
            host_header: HeaderValue::from_str(configured.id.as_str())
                .map_err(|_| format!("host `{}` cannot stand in a Host field", configured.id))?,
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
            successes: AtomicU64::new(0),
            status_details: Mutex::new(StatusDetails::new()),
            request_counters: Arc::default(),
            file_weight: configured.file_weight,
            label: configured.label.clone(),
            counters,
        })
    }

    /// Identity, address, weight and live state.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// How a connection to the host is made, with all timeouts; cloned for each request.
    pub fn peer(&self) -> &Arc<HttpPeer> {
        &self.peer
    }

    /// The host's own `host:port`, as a Host field.
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// Whether it is used only while no other host is usable.
    pub fn is_backup(&self) -> bool {
        self.backup
    }

    /// Whether new requests keep away from it by the wish of an operator, or by its weight of 0.
    pub fn is_draining(&self) -> bool {
        self.host.weight() == 0 || self.is_drained()
    }

    /// Whether an operator has drained it.
    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::SeqCst)
    }

    /// Notes the wish of an operator; returns what it was before.
    pub(super) fn set_drained(&self, drained: bool) -> bool {
        self.drained.swap(drained, Ordering::SeqCst)
    }

    /// Whether it has failed requests and not proven itself since.
    pub fn is_ejected(&self) -> bool {
        self.outlier_detector().is_ejected()
    }

    /// Requests that it has begun to answer well so far. A check that took too long means little if there was one since the
    /// check before.
    pub fn successes(&self) -> u64 {
        self.successes.load(Ordering::Relaxed)
    }

    pub(super) fn count_success(&self) {
        self.count_successes(1);
    }

    pub(super) fn count_successes(&self, more: u64) {
        self.successes.fetch_add(more, Ordering::Relaxed);
    }

    /// Its weight in the file, where an operator may have set another; `None` if an operator has added it.
    pub fn file_weight(&self) -> Option<u32> {
        self.file_weight
    }

    /// What people call it; `None`: by its identity.
    pub(super) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// How often something has befallen it.
    pub fn counters(&self) -> &HostCounters {
        &self.counters
    }

    /// What the checks have found; `None` before the first.
    pub fn verdict(&self) -> Option<HealthVerdict> {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the checks have found; the pool's [`reconcile`](super::Pool::reconcile) acts on it.
    pub fn set_verdict(&self, verdict: Option<HealthVerdict>) {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
    }

    /// When the next check is due; `None` before that is known.
    pub fn next_check(&self) -> Option<Instant> {
        *self
            .next_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes when the next check is due.
    pub fn set_next_check(&self, next_check: Option<Instant>) {
        *self
            .next_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = next_check;
    }

    /// Notes a check, for people; what follows from it is for [`set_verdict`](Member::set_verdict).
    pub fn record_check(&self, check: CheckResult) {
        self.status_details().record_check(check);
    }

    /// Attempts at it, and those that failed.
    pub fn request_counters(&self) -> &RequestCounters {
        &self.request_counters
    }

    /// What is told of it. Held for a moment only.
    pub(super) fn status_details(&self) -> MutexGuard<'_, StatusDetails> {
        self.status_details
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The state that it is in, as far as that does not change by time alone.
    pub(super) fn state(&self) -> HostState {
        if !self.is_healthy() {
            return match self.verdict() {
                None => HostState::Unchecked,
                Some(_) => HostState::Down,
            };
        }
        match self.outlier_detector().stage() {
            EjectionStage::Ejected { .. } => HostState::Ejected,
            EjectionStage::ProbeDue { .. } | EjectionStage::Probing { .. } => HostState::Probing,
            EjectionStage::Serving if self.is_draining() => HostState::Draining,
            EjectionStage::Serving => HostState::Up,
        }
    }

    /// Whether it works, as far as the checks know.
    pub fn is_healthy(&self) -> bool {
        self.verdict()
            .map_or(self.presumed_healthy, |verdict| verdict.healthy)
    }

    pub(super) fn tier_inputs(&self) -> TierInputs {
        TierInputs {
            healthy: self.is_healthy(),
            ejected: self.is_ejected(),
            draining: self.is_draining(),
            backup: self.backup,
        }
    }

    /// Whether new requests may go to it.
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

    /// What its requests have said. Held for a moment only.
    pub(super) fn outlier_detector(&self) -> MutexGuard<'_, OutlierDetector> {
        self.outlier_detector
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the ejections and returns of the host: requests of one epoch say nothing about another.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(super) fn begin_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_probe_due(&self) -> bool {
        self.due.load(Ordering::Relaxed)
    }

    /// Sets the flag and returns what it was.
    pub(super) fn set_probe_due(&self, due: bool) -> bool {
        self.due.swap(due, Ordering::SeqCst)
    }
}

/// What the members of a pool have in common.
pub(super) struct PeerTemplate<'a> {
    timeouts: &'a config::Timeouts,
    tls: Option<&'a config::PoolTls>,
    ca: Option<Arc<CaType>>,
    /// Pingora's reuse key leaves out who is trusted, so connections with TLS stay within their pool.
    group_key: u64,
    presumed_healthy: bool,
}

impl<'a> PeerTemplate<'a> {
    pub(super) fn new(pool: &'a config::Pool, timeouts: &'a config::Timeouts) -> Self {
        let tls = pool.tls.as_ref();
        let mut hasher = DefaultHasher::new();
        pool.name.hash(&mut hasher);
        PeerTemplate {
            timeouts,
            tls,
            ca: tls.and_then(|tls| tls.ca.as_ref()).map(trusted),
            group_key: if tls.is_some() { hasher.finish() } else { 0 },
            presumed_healthy: pool
                .health_check
                .as_ref()
                .is_none_or(|check| check.initial == config::Initial::Up),
        }
    }

    fn peer(&self, host: &config::Host) -> HttpPeer {
        let server_name = self.tls.map(|tls| {
            // An IPv6 address stands in a certificate without the brackets of the URL.
            let own = host.name.trim_start_matches('[').trim_end_matches(']');
            tls.server_name.clone().unwrap_or_else(|| own.to_owned())
        });
        let mut peer = HttpPeer::new(
            host.address,
            self.tls.is_some(),
            server_name.unwrap_or_default(),
        );
        peer.group_key = self.group_key;
        let options = &mut peer.options;
        options.connection_timeout = Some(self.timeouts.connect);
        options.total_connection_timeout = Some(self.timeouts.connect);
        options.read_timeout = Some(self.timeouts.read);
        options.write_timeout = Some(self.timeouts.write);
        options.idle_timeout = Some(self.timeouts.idle);
        options.ca = self.ca.clone();
        if let Some(tls) = self.tls {
            options.verify_cert = tls.verify;
            options.verify_hostname = tls.verify;
        }
        peer
    }
}

/// Authorities as Pingora takes them.
fn trusted(authorities: &config::Authorities) -> Arc<CaType> {
    let certificates = authorities.certificates.iter();
    certificates
        .map(|certificate| WrappedX509::new(certificate.to_vec(), parse_x509))
        .collect()
}
