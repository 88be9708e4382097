//! `client_certificates` of a listener: which certificates clients show.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateRevocationListDer;
use serde_json::json;
use x509_parser::parse_x509_crl;

use super::environment::Environment;
use super::pem;
use super::pool_tls::{Authorities, authorities};
use super::schema::{Reader, Scalar, choice, file, section};
use super::warnings::date;

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
        /// client in. Without it no certificate counts as revoked. A renewed file needs no reload, see
        /// server.certificate_check.
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
    let read =
        |path: PathBuf, reader: &Reader<'_>| RevocationLists::read(&path, reader.environment);
    file("the path of a PEM file", read, |lists: &RevocationLists| {
        json!(lists.file)
    })
}

impl RevocationLists {
    fn read(file: &Path, environment: &dyn Environment) -> Result<Self, String> {
        Ok(RevocationLists {
            file: file.to_owned(),
            lists: pem::revocation_lists(file, environment)?,
        })
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn reread(&self, environment: &dyn Environment) -> Result<Self, String> {
        RevocationLists::read(&self.file, environment)
    }

    /// Whether these lists may replace `old` ones. Those that let no client in may not, unless the old ones do neither.
    ///
    /// # Errors
    /// The reason against it, for a person.
    pub(crate) fn may_replace(&self, old: &Self, now: i64) -> Result<(), String> {
        let expired = self.expired(now);
        match expired.is_empty() || !old.expired(now).is_empty() {
            true => Ok(()),
            false => Err(expired.join("; ")),
        }
    }

    /// What has to be said at `now` and did not at `before`, because a list has expired.
    pub(crate) fn new_warnings(&self, before: i64, now: i64) -> Vec<String> {
        let mut expired = self.expired(now);
        if !expired.is_empty() {
            let earlier = self.expired(before);
            expired.retain(|line| !earlier.contains(line));
        }
        expired
    }

    /// One line for each list that has expired.
    pub(super) fn expired(&self, now: i64) -> Vec<String> {
        let ends = self.ends().filter(|(_, until)| now >= *until);
        let file = self.file.display();
        ends.map(|(issuer, until)| {
            format!(
                "the revocation list of {issuer} in `{file}` expired at {}; clients of this authority are refused",
                date(until)
            )
        })
        .collect()
    }

    /// The Unix time at which the first list expires; `None` if no date can be read.
    pub fn expiry(&self) -> Option<i64> {
        self.ends().map(|(_, until)| until).min()
    }

    /// The file and how long it is current, for a line in the log.
    pub(crate) fn describe(&self) -> String {
        let file = self.file.display();
        match self.expiry() {
            Some(expiry) => format!("`{file}`, current until {}", date(expiry)),
            None => format!("`{file}`"),
        }
    }

    /// The issuer of each list, and the Unix time at which it expires.
    fn ends(&self) -> impl Iterator<Item = (String, i64)> {
        self.lists.iter().filter_map(|der| {
            let (_, list) = parse_x509_crl(der).ok()?;
            Some((list.issuer().to_string(), list.next_update()?.timestamp()))
        })
    }
}
