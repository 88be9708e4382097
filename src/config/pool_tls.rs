//! `tls` of a pool: TLS to its hosts.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys};
use serde_json::json;
use x509_parser::parse_x509_certificate;

use super::document::Node;
use super::hints::quote;
use super::pem;
use super::schema::{Reader, Scalar, boolean, file, scalar, section};
use super::tls_policy::{self, TlsVersion};

section! {
    /// TLS to the hosts of a pool.
    pub struct PoolTls: Eq {
        /// The server name that is asked for and verified; without it the host's own name.
        server_name: Option<String> { server_name(), optional "app.internal" },
        /// Whether the host's certificate must be valid. `false` takes any certificate, and an attacker in between can
        /// read along.
        verify: bool { boolean(), default "true" },
        /// The lowest version of TLS that is spoken with hosts. A host without it gets no request, and its health checks fail.
        min_version: TlsVersion { tls_policy::version(), default "\"1.2\"" },
        /// A PEM file of authorities that are trusted instead of the system's.
        ca: Option<Authorities> { authorities(), optional "/etc/ballast/authorities.pem" },
        /// A PEM file of the certificate that hosts get if they ask for one, and of those between it and its authority. It is
        /// read again at a reload.
        certificate: Option<ShownCertificate> { shown_certificate(), optional "/etc/ballast/client.pem" },
        /// A PEM file of the certificate's private key.
        key: Option<ShownKey> { shown_key(), optional "/etc/ballast/client.key" },
    }
    check key_fits;
}

/// The certificate that hosts get, at least one with those that follow it in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownCertificate {
    /// The PEM file.
    pub file: PathBuf,
    /// Its content.
    pub chain: Vec<CertificateDer<'static>>,
}

/// The private key of a [`ShownCertificate`].
#[derive(Clone)]
pub struct ShownKey {
    /// The PEM file.
    pub file: PathBuf,
    /// The usable keys in it, each with its DER.
    keys: Vec<pem::KeyWithDer>,
}

impl ShownKey {
    /// The DER of the key that belongs to the first certificate of `chain`.
    pub fn der_for(&self, chain: &[CertificateDer<'static>]) -> Option<&[u8]> {
        let fits = |key: &Arc<dyn SigningKey>| {
            // Keys whose public half rustls cannot read are taken unchecked.
            matches!(
                CertifiedKey::new(chain.to_vec(), Arc::clone(key)).keys_match(),
                Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown))
            )
        };
        let mut keys = self.keys.iter();
        let (_, der) = keys.find(|(key, der)| fits(key) && is_recognized(der))?;
        Some(der)
    }
}

impl PartialEq for ShownKey {
    fn eq(&self, other: &Self) -> bool {
        let ders = |key: &ShownKey| Vec::from_iter(key.keys.iter().map(|(_, der)| der.clone()));
        self.file == other.file && ders(self) == ders(other)
    }
}

impl Eq for ShownKey {}

impl fmt::Debug for ShownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.debug_tuple("ShownKey").field(&self.file).finish()
    }
}

/// Whether Pingora, which is given a key without its kind, finds out the kind.
fn is_recognized(der: &[u8]) -> bool {
    PrivateKeyDer::try_from(der).is_ok()
}

fn key_fits(tls: &mut PoolTls, map: &Node, reader: &mut Reader<'_>) {
    match (&tls.certificate, &tls.key) {
        (None, None) => {}
        (Some(certificate), Some(key)) if key.der_for(&certificate.chain).is_none() => {
            let message = format!(
                "the key in `{}` does not belong to the certificate in `{}`",
                key.file.display(),
                certificate.file.display()
            );
            reader.problem_of_key(map, "key", message);
        }
        (Some(_), Some(_)) => {}
        (Some(_), None) if has_key(map, "key") => {}
        (None, Some(_)) if has_key(map, "certificate") => {}
        (Some(_), None) => {
            let message = "its private key is missing; add `key: FILE`, which may be the same file";
            reader.problem_of_key(map, "certificate", message);
        }
        (None, Some(_)) => {
            let message = "its certificate is missing; add `certificate: FILE`";
            reader.problem_of_key(map, "key", message);
        }
    }
}

/// Whether a key is there, if only with a value that has been reported already.
fn has_key(map: &Node, key: &str) -> bool {
    map.get(key).is_some()
}

fn shown_certificate() -> Scalar<ShownCertificate> {
    let read = |path: PathBuf, reader: &Reader<'_>| {
        let chain = pem::certificates(&path, reader.environment)?;
        // Pingora's parser panics at what this one refuses.
        for certificate in &chain {
            parse_x509_certificate(certificate).map_err(|error| {
                let shown = path.display();
                format!("`{shown}` holds a certificate that cannot be used: {error}")
            })?;
        }
        Ok(ShownCertificate { file: path, chain })
    };
    file(
        "the path of a PEM file",
        read,
        |shown: &ShownCertificate| json!(shown.file),
    )
}

fn shown_key() -> Scalar<ShownKey> {
    let read = |path: PathBuf, reader: &Reader<'_>| {
        let keys = pem::private_keys_with_der(&path, reader.environment)?;
        Ok(ShownKey { file: path, keys })
    };
    file("the path of a PEM file", read, |shown: &ShownKey| {
        json!(shown.file)
    })
}

/// Certificates of authorities, at least one, each of which can be a trust anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// The PEM file.
    pub file: PathBuf,
    /// Its content.
    pub certificates: Vec<CertificateDer<'static>>,
}

fn server_name() -> Scalar<String> {
    let read = |text: &str| match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{} is not a server name", quote(text))),
    };
    scalar("a server name", read, |name| json!(name))
}

/// A PEM file of authorities.
pub(super) fn authorities() -> Scalar<Authorities> {
    let read = |path: PathBuf, reader: &Reader<'_>| pem::authorities(&path, reader.environment);
    file(
        "the path of a PEM file",
        read,
        |authorities: &Authorities| json!(authorities.file),
    )
}
