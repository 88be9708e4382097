//! Which certificate a client gets: chosen by the server name (SNI).

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::acme_challenges::AcmeChallenges;
use crate::config::{Certificate, ListenerTls, Validity};
use crate::timestamp::Timestamp;

/// The protocol of authorities that ask for the answer to a challenge (RFC 8737 6.2).
pub(super) const CHALLENGE_PROTOCOL: &[u8] = b"acme-tls/1";

/// The certificates of a listener. A handshake uses those that are current when it begins.
#[derive(Debug)]
pub(super) struct Certificates {
    index: ArcSwap<CertificateIndex>,
    challenges: Arc<AcmeChallenges>,
}

/// The certificates of a listener by name.
#[derive(Debug)]
struct CertificateIndex {
    exact: HashMap<String, Arc<ServedCertificate>>,
    /// By what follows the `*.`.
    wildcard: HashMap<String, Arc<ServedCertificate>>,
    /// For all other names; `None`: such handshakes are refused.
    default: Option<Arc<ServedCertificate>>,
}

/// A certificate as clients get it.
#[derive(Debug)]
struct ServedCertificate {
    certified: Arc<CertifiedKey>,
    /// The same with an OCSP response, and when clients accept that.
    stapled: Option<(Validity, Arc<CertifiedKey>)>,
}

impl Certificates {
    pub(super) fn new(tls: &ListenerTls, challenges: Arc<AcmeChallenges>) -> Self {
        Certificates {
            index: ArcSwap::from_pointee(CertificateIndex::new(tls)),
            challenges,
        }
    }

    /// Uses those of `tls` from the next handshake on.
    pub(super) fn replace(&self, tls: &ListenerTls) {
        self.index.store(Arc::new(CertificateIndex::new(tls)));
    }
}

impl ServedCertificate {
    fn new(certificate: &Certificate) -> Self {
        let certified = Arc::clone(&certificate.certified);
        let stapled = certificate.response().map(|response| {
            let mut stapled = CertifiedKey::clone(&certified);
            stapled.ocsp = Some(response.der.clone());
            (response.validity, Arc::new(stapled))
        });
        ServedCertificate { certified, stapled }
    }

    /// What clients get at this time.
    fn at(&self, now: impl FnOnce() -> i64) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some((validity, stapled)) if validity.includes(now()) => stapled,
            _ => &self.certified,
        }
    }
}

impl CertificateIndex {
    fn new(tls: &ListenerTls) -> Self {
        let default = tls.default_certificate();
        let mut index = CertificateIndex {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            default: default.map(|certificate| Arc::new(ServedCertificate::new(certificate))),
        };
        for (certificate, names) in tls.serving(unix_now()) {
            let served = Arc::new(ServedCertificate::new(certificate));
            for name in names {
                let (names, name) = match name.strip_prefix("*.") {
                    Some(domain) => (&mut index.wildcard, domain),
                    None => (&mut index.exact, name),
                };
                names.insert(name.to_owned(), Arc::clone(&served));
            }
        }
        index
    }

    /// The certificate for a name in lower case.
    fn for_name(&self, name: &str) -> Option<&Arc<ServedCertificate>> {
        // A trailing dot names the same host; certificates never have it.
        let name = name.strip_suffix('.').unwrap_or(name);
        let by_wildcard = || {
            let (_, domain) = name.split_once('.')?;
            self.wildcard.get(domain)
        };
        self.exact.get(name).or_else(by_wildcard)
    }
}

impl ResolvesServerCert for Certificates {
    /// The certificate with the client's name, an exact one before a wildcard; else the first, also for clients without
    /// SNI. An authority gets the answer to its challenge.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if is_challenge(&hello) {
            return self.challenges.certificate(hello.server_name()?);
        }
        let index = self.index.load();
        // rustls has it in lower case.
        let named = hello.server_name().and_then(|name| index.for_name(name));
        let served = named.or(index.default.as_ref())?;
        Some(Arc::clone(served.at(unix_now)))
    }
}

/// Whether a client is an authority, which offers nothing else.
fn is_challenge(hello: &ClientHello<'_>) -> bool {
    hello.alpn().is_some_and(|mut protocols| {
        protocols.next() == Some(CHALLENGE_PROTOCOL) && protocols.next().is_none()
    })
}

fn unix_now() -> i64 {
    Timestamp::now().unix_seconds() as i64
}
