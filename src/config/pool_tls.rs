//! `tls` of a pool: TLS to its hosts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys};
use serde_json::json;
use x509_parser::parse_x509_certificate;

use super::certificates::Validity;
use super::document::Node;
use super::environment::Environment;
use super::hints::quote;
use super::pem;
use super::schema::{Reader, Scalar, boolean, file, scalar, section};
use super::tls_policy::{self, TlsVersion};
use super::warnings::{date, date_faults, new_date_warnings};

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
        /// A PEM file of authorities that are trusted instead of the system's. Changes of this file and the next two need no
        /// reload, see server.certificate_check.
        ca: Option<Authorities> { authorities(), optional "/etc/ballast/authorities.pem" },
        /// A PEM file of the certificate that hosts get if they ask for one, and of those between it and its authority.
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

/// A certificate for hosts with the key that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownIdentity {
    /// The certificate.
    pub certificate: ShownCertificate,
    /// Its key.
    pub key: ShownKey,
}

impl PoolTls {
    /// What hosts get if they ask for a certificate.
    pub fn identity(&self) -> Option<ShownIdentity> {
        Some(ShownIdentity {
            certificate: self.certificate.clone()?,
            key: self.key.clone()?,
        })
    }
}

impl ShownIdentity {
    /// Reads the files again.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn reread(&self, environment: &dyn Environment) -> Result<Self, String> {
        let identity = ShownIdentity {
            certificate: ShownCertificate::read(&self.certificate.file, environment)?,
            key: ShownKey::read(&self.key.file, environment)?,
        };
        match identity.der().is_some() {
            true => Ok(identity),
            false => Err(misfit(&identity.certificate, &identity.key)),
        }
    }

    /// Whether this certificate may replace `old`. One that is out of date may not, unless the old one is as well.
    ///
    /// # Errors
    /// The reason against it, for a person.
    pub(crate) fn may_replace(&self, old: &Self, now: i64) -> Result<(), String> {
        let ShownCertificate { chain, file } = &self.certificate;
        let faults = date_faults(chain, file, now);
        let old_is_valid = Validity::of(&old.certificate.chain).includes(now);
        match faults.is_empty() || !old_is_valid {
            true => Ok(()),
            false => Err(faults.join("; ")),
        }
    }

    /// What has to be said at `now` and did not at `before`, because the certificate is about to expire or has expired.
    pub(crate) fn new_warnings(&self, before: i64, now: i64) -> Vec<String> {
        let ShownCertificate { chain, file } = &self.certificate;
        new_date_warnings(chain, file, before, now)
    }

    /// The file and when its certificate expires, for a line in the log.
    pub(crate) fn describe(&self) -> String {
        let file = self.certificate.file.display();
        let Validity { until, .. } = Validity::of(&self.certificate.chain);
        format!("`{file}`, expires at {}", date(until))
    }

    /// The DER of the key.
    pub(crate) fn der(&self) -> Option<&[u8]> {
        self.key.der_for(&self.certificate.chain)
    }
}

impl ShownCertificate {
    fn read(file: &Path, environment: &dyn Environment) -> Result<Self, String> {
        let chain = pem::certificates(file, environment)?;
        // Pingora's parser panics at what this one refuses.
        for certificate in &chain {
            parse_x509_certificate(certificate).map_err(|error| {
                let shown = file.display();
                format!("`{shown}` holds a certificate that cannot be used: {error}")
            })?;
        }
        let file = file.to_owned();
        Ok(ShownCertificate { file, chain })
    }
}

impl ShownKey {
    fn read(file: &Path, environment: &dyn Environment) -> Result<Self, String> {
        Ok(ShownKey {
            file: file.to_owned(),
            keys: pem::private_keys_with_der(file, environment)?,
        })
    }

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
    check_identity(tls.certificate.as_ref(), tls.key.as_ref(), map, reader);
}

/// Notes what is wrong with the keys `certificate` and `key` of a map together.
pub(super) fn check_identity(
    certificate: Option<&ShownCertificate>,
    key: Option<&ShownKey>,
    map: &Node,
    reader: &mut Reader<'_>,
) {
    match (certificate, key) {
        (None, None) => {}
        (Some(certificate), Some(key)) if key.der_for(&certificate.chain).is_none() => {
            reader.problem_of_key(map, "key", misfit(certificate, key));
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

fn misfit(certificate: &ShownCertificate, key: &ShownKey) -> String {
    format!(
        "the key in `{}` does not belong to the certificate in `{}`",
        key.file.display(),
        certificate.file.display()
    )
}

/// Whether a key is there, if only with a value that has been reported already.
fn has_key(map: &Node, key: &str) -> bool {
    map.get(key).is_some()
}

/// A PEM file of the certificate that a server gets if it asks for one.
pub(super) fn shown_certificate() -> Scalar<ShownCertificate> {
    let read =
        |path: PathBuf, reader: &Reader<'_>| ShownCertificate::read(&path, reader.environment);
    file(
        "the path of a PEM file",
        read,
        |shown: &ShownCertificate| json!(shown.file),
    )
}

/// A PEM file of its private key.
pub(super) fn shown_key() -> Scalar<ShownKey> {
    let read = |path: PathBuf, reader: &Reader<'_>| ShownKey::read(&path, reader.environment);
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

impl Authorities {
    /// Reads the file again.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn reread(&self, environment: &dyn Environment) -> Result<Self, String> {
        pem::authorities(&self.file, environment)
    }
}

/// The name that is asked for and verified in a TLS handshake.
pub(super) fn server_name() -> Scalar<String> {
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
