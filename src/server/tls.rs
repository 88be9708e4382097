//! TLS towards clients: certificates chosen by the name that the client asks for.

use std::sync::Arc;

use pingora::listeners::ALPN;
use pingora::listeners::tls::TlsSettings;
use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::ListenerTls;

/// The settings of a listener. Its certificates have been read with the configuration; Pingora would read them when it
/// builds the acceptor, and panic.
pub(super) fn settings(tls: &ListenerTls) -> pingora::Result<TlsSettings> {
    let certificates = tls.certificates.iter();
    let certificates = certificates.map(|certificate| Arc::clone(&certificate.certified));
    let mut settings = TlsSettings::intermediate("", "")?;
    settings.set_cert_resolver(Arc::new(Certificates(certificates.collect())));
    settings.set_alpn(ALPN::H1);
    Ok(settings)
}

/// The certificates of a listener, at least one.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

impl Certificates {
    fn for_name(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = ServerName::try_from(name).ok()?;
        self.0.iter().find(|certified| {
            certified
                .end_entity_cert()
                .and_then(ParsedCertificate::try_from)
                .is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
        })
    }
}

impl ResolvesServerCert for Certificates {
    /// The first certificate that is valid for the name; the first of all for other names and for clients without one.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.for_name(name));
        named.or(self.0.first()).cloned()
    }
}
