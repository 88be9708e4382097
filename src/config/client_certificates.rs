//! `client_certificates` of a listener: which certificates clients show.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateRevocationListDer;
use serde_json::json;

use super::environment::Environment;
use super::pem;
use super::pool_tls::{Authorities, authorities};
use super::schema::{Reader, Scalar, choice, file, section};

/// Whether something has to come with a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CertificateMode {
    /// It may come without.
    #[default]
    Optional,
    /// It is refused without.
    Required,
}

section! {
    /// The certificates that clients show.
    pub struct ClientCertificates: Eq {
        /// A PEM file of the authorities that sign clients' certificates.
        ca: Authorities { authorities(), required "/etc/ballast/clients.pem" },
        /// Whether a handshake without a certificate fails. `optional`: routes decide, see client_certificate. One that is
        /// shown has to be good either way.
        mode: CertificateMode { mode(), default "required" },
        /// A PEM file of revocation lists, one of each authority in the clients' chains. A list that has expired lets no
        /// client in. Without it no certificate counts as revoked.
        crl: Option<RevocationLists> { revocation_lists(), optional "/etc/ballast/clients.crl" },
    }
}

/// Certificate revocation lists, at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationLists {
    /// The PEM file.
    pub file: PathBuf,
    /// Its content.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
}

/// `required` or `optional`.
pub(super) fn mode() -> Scalar<CertificateMode> {
    choice(&[
        ("required", CertificateMode::Required),
        ("optional", CertificateMode::Optional),
    ])
}

fn revocation_lists() -> Scalar<RevocationLists> {
    let read = |path: PathBuf, reader: &Reader<'_>| read(&path, reader.environment);
    file("the path of a PEM file", read, |lists: &RevocationLists| {
        json!(lists.file)
    })
}

fn read(file: &Path, environment: &dyn Environment) -> Result<RevocationLists, String> {
    Ok(RevocationLists {
        file: file.to_owned(),
        lists: pem::revocation_lists(file, environment)?,
    })
}
