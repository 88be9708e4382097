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
    /// The same host with a weight of at least 1, for when a drained host is the last resort.
    last_resort: Arc<Host>,
    peer: Arc<HttpPeer>,
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
    successes: AtomicU64,
    /// For people; no request depends on it.
    status_details: Mutex<StatusDetails>,
    pub(super) request_counters: Arc<RequestCounters>,
    /// The weight in the file; `None` if an operator added the host.
    file_weight: Option<u32>,
    /// The display name.
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

    /// How Pingora connects to the host, with all timeouts; cloned for each request.
    pub fn peer(&self) -> &Arc<HttpPeer> {
        &self.peer
    }

    /// The host's own `host:port`, as a Host field.
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
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
    pub(super) fn is_drained(&self) -> bool {
        self.drained.load(Ordering::SeqCst)
    }

    /// Drains the host or undoes that; returns the previous setting.
    pub(super) fn set_drained(&self, drained: bool) -> bool {
        self.drained.swap(drained, Ordering::SeqCst)
    }

    /// Whether the host is ejected and has not passed a probe since.
    pub fn is_ejected(&self) -> bool {
        self.outlier_detector().is_ejected()
    }

    /// Requests that the host began to answer successfully so far. A check that timed out means little if this grew
    /// since the check before.
    pub fn successes(&self) -> u64 {
        self.successes.load(Ordering::Relaxed)
    }

    pub(super) fn count_success(&self) {
        self.count_successes(1);
    }

    pub(super) fn count_successes(&self, more: u64) {
        self.successes.fetch_add(more, Ordering::Relaxed);
    }

    /// The weight in the file, which an operator may have overridden; `None` if an operator added the host.
    pub fn file_weight(&self) -> Option<u32> {
        self.file_weight
    }

    /// The display name; `None` if people know it by its identity.
    pub(super) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Counters of checks and ejections.
    pub fn counters(&self) -> &HostCounters {
        &self.counters
    }

    /// The result of the checks; `None` before the first.
    pub fn verdict(&self) -> Option<HealthVerdict> {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the result of the checks; the pool's [`reconcile`](super::Pool::reconcile) acts on it.
    pub fn set_verdict(&self, verdict: Option<HealthVerdict>) {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
    }

    /// When the next check is due; `None` if not known yet.
    pub fn next_check(&self) -> Option<Instant> {
        *self
            .next_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets when the next check is due.
    pub fn set_next_check(&self, next_check: Option<Instant>) {
        *self
            .next_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = next_check;
    }

    /// Records a check for people. It has no effect on requests; [`set_verdict`](Member::set_verdict) has.
    pub fn record_check(&self, check: CheckResult) {
        self.status_details().record_check(check);
    }

    /// Attempts at this host, and failed ones.
    pub fn request_counters(&self) -> &RequestCounters {
        &self.request_counters
    }

    /// Details for people. Hold the guard briefly.
    pub(super) fn status_details(&self) -> MutexGuard<'_, StatusDetails> {
        self.status_details
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The state without slow start, which depends on time alone.
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

    /// Whether the checks call the host healthy.
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

    /// The detector that ejects the host. Hold the guard briefly.
    pub(super) fn outlier_detector(&self) -> MutexGuard<'_, OutlierDetector> {
        self.outlier_detector
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the host's ejections and returns. The outcome of a request counts only in the epoch in which it began.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(super) fn begin_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn is_probe_due(&self) -> bool {
        self.due.load(Ordering::Relaxed)
    }

    /// Sets the flag and returns the previous value.
    pub(super) fn set_probe_due(&self, due: bool) -> bool {
        self.due.swap(due, Ordering::SeqCst)
    }
}

/// The connection settings that all members of a pool share.
pub(super) struct PeerTemplate<'a> {
    timeouts: &'a config::Timeouts,
    tls: Option<&'a config::PoolTls>,
    ca: Option<Arc<CaType>>,
    /// Pingora's reuse key leaves out the trusted authorities, so TLS connections stay within their pool.
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
            // A certificate names an IPv6 address without the brackets of the URL.
            let host_name = host.name.trim_start_matches('[').trim_end_matches(']');
            tls.server_name
                .clone()
                .unwrap_or_else(|| host_name.to_owned())
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

/// Authorities in Pingora's form.
fn trusted(authorities: &config::Authorities) -> Arc<CaType> {
    let certificates = authorities.certificates.iter();
    certificates
        .map(|certificate| WrappedX509::new(certificate.to_vec(), parse_x509))
        .collect()
}
