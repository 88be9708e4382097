//! TLS towards clients; the certificate is chosen by the server name (SNI).

use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::listeners::ALPN;
use pingora::listeners::tls::TlsSettings;
use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::StartError;
use crate::config::{Listener, ListenerTls};

/// The TLS settings and the certificates of a listener; `None` for a listener without TLS.
pub(super) fn build_tls(
    listener: &Listener,
) -> Result<Option<(TlsSettings, Arc<Certificates>)>, StartError> {
    let Some(tls) = &listener.tls else {
        return Ok(None);
    };
    let certificates = Arc::new(Certificates::new(tls));
    let settings = settings(Arc::clone(&certificates), tls.http2)
        .map_err(|error| StartError::Certificate(error.to_string()))?;
    Ok(Some((settings, certificates)))
}

/// The settings of a listener with these certificates, which offers HTTP/2 and HTTP/1.1, or HTTP/1.1 alone. The
/// certificates are loaded with the configuration; Pingora would load them while it builds the acceptor, and panic on
/// an error.
fn settings(certificates: Arc<Certificates>, http2: bool) -> pingora::Result<TlsSettings> {
    let mut settings = TlsSettings::intermediate("", "")?;
    settings.set_cert_resolver(certificates);
    settings.set_alpn(if http2 { ALPN::H2H1 } else { ALPN::H1 });
    Ok(settings)
}

/// The certificates of a listener, at least one. A handshake uses those that are current when it begins.
#[derive(Debug)]
pub(super) struct Certificates(ArcSwap<Vec<Arc<CertifiedKey>>>);

impl Certificates {
    pub(super) fn new(tls: &ListenerTls) -> Self {
        Certificates(ArcSwap::from_pointee(certified(tls)))
    }

    /// Uses those of `tls` from the next handshake on.
    pub(super) fn replace(&self, tls: &ListenerTls) {
        self.0.store(Arc::new(certified(tls)));
    }
}

fn certified(tls: &ListenerTls) -> Vec<Arc<CertifiedKey>> {
    let certificates = tls.certificates.iter();
    certificates
        .map(|certificate| Arc::clone(&certificate.certified))
        .collect()
}

fn for_name<'a>(
    certificates: &'a [Arc<CertifiedKey>],
    name: &str,
) -> Option<&'a Arc<CertifiedKey>> {
    // A trailing dot names the same host; certificates never have it.
    let name = ServerName::try_from(name.strip_suffix('.').unwrap_or(name)).ok()?;
    certificates.iter().find(|certified| {
        certified
            .end_entity_cert()
            .and_then(ParsedCertificate::try_from)
            .is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
    })
}

impl ResolvesServerCert for Certificates {
    /// The first certificate that is valid for the name; the first of all for unknown names and for clients without
    /// SNI.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.0.load();
        let named = hello
            .server_name()
            .and_then(|name| for_name(&certificates, name));
        named.or(certificates.first()).cloned()
    }
}
