//! A host within a pool: how it is reached, and whether it is usable.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::HeaderValue;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{WrappedX509, parse_x509};

use super::Verdict;
use crate::balancer::Host;
use crate::config;

/// A host within a pool.
#[derive(Debug)]
pub struct Member {
    host: Arc<Host>,
    peer: HttpPeer,
    host_header: HeaderValue,
    usable: AtomicBool,
    /// Touched by checks only, never on the path of a request.
    verdict: Mutex<Option<Verdict>>,
    /// Touched by checks only as well.
    next_check: Mutex<Option<Instant>>,
}

impl Member {
    pub(super) fn new(
        host: Arc<Host>,
        configured: &config::Host,
        template: &Template<'_>,
    ) -> Result<Self, String> {
        Ok(Member {
            peer: template.peer(configured),
            host_header: HeaderValue::from_str(configured.id.as_str())
                .map_err(|_| format!("host `{}` cannot stand in a Host field", configured.id))?,
            host,
            usable: AtomicBool::new(false),
            verdict: Mutex::new(None),
            next_check: Mutex::new(None),
        })
    }

    /// Identity, address, weight and live state.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// How a connection to the host is made, with all timeouts; cloned for each request.
    pub fn peer(&self) -> &HttpPeer {
        &self.peer
    }

    /// The host's own `host:port`, as a Host field.
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// Whether new requests may go to the host.
    pub fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    /// What the checks have found; `None` before the first.
    pub fn verdict(&self) -> Option<Verdict> {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the checks have found.
    pub fn judge(&self, verdict: Option<Verdict>) {
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
    pub fn schedule(&self, next_check: Option<Instant>) {
        *self
            .next_check
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = next_check;
    }

    /// Sets the flag and returns what it was.
    pub(super) fn set_usable(&self, usable: bool) -> bool {
        self.usable.swap(usable, Ordering::Relaxed)
    }
}

/// What the members of a pool have in common.
pub(super) struct Template<'a> {
    timeouts: &'a config::Timeouts,
    tls: Option<&'a config::PoolTls>,
    ca: Option<Arc<CaType>>,
    /// Pingora's reuse key leaves out who is trusted, so connections with TLS stay within their pool.
    group_key: u64,
}

impl<'a> Template<'a> {
    pub(super) fn new(pool: &'a config::Pool, timeouts: &'a config::Timeouts) -> Self {
        let tls = pool.tls.as_ref();
        let mut hasher = DefaultHasher::new();
        pool.name.hash(&mut hasher);
        Template {
            timeouts,
            tls,
            ca: tls.and_then(|tls| tls.ca.as_ref()).map(trusted),
            group_key: if tls.is_some() { hasher.finish() } else { 0 },
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
