//! TLS towards clients: certificates chosen by the name that the client asks for.

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use pingora::listeners::ALPN;
use pingora::listeners::tls::TlsSettings;
use rustls::client::verify_server_name;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::{CertificateFiles, ListenerTls};

/// The settings of a listener. Everything that can go wrong goes wrong here and not when Pingora builds the acceptor,
/// which would panic.
pub(super) fn settings(tls: &ListenerTls) -> Result<TlsSettings, String> {
    let certificates = tls.certificates.iter().map(load);
    let certificates = Certificates(certificates.collect::<Result<_, _>>()?);
    let mut settings = TlsSettings::intermediate("", "").map_err(|error| error.to_string())?;
    settings.set_cert_resolver(Arc::new(certificates));
    settings.set_alpn(ALPN::H1);
    Ok(settings)
}

fn load(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, String> {
    let chain: Vec<_> = rustls_pemfile::certs(&mut read(&files.certificate)?.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|error| cannot_use(&files.certificate, &error))?;
    if chain.is_empty() {
        return Err(cannot_use(&files.certificate, &"no certificate in it"));
    }
    let key = rustls_pemfile::private_key(&mut read(&files.key)?.as_slice())
        .map_err(|error| cannot_use(&files.key, &error))?
        .ok_or_else(|| cannot_use(&files.key, &"no private key in it"))?;
    let key = any_supported_type(&key).map_err(|error| cannot_use(&files.key, &error))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // A key type whose public half rustls cannot read is taken at its word.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(error) => Err(cannot_use(&files.key, &error)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| cannot_use(path, &error))
}

fn cannot_use(path: &Path, reason: &dyn Display) -> String {
    format!("cannot use `{}`: {reason}", path.display())
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
