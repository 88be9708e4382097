//! `tls` of a pool: TLS to its hosts.

use std::path::PathBuf;

use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;

use super::hints::quote;
use super::pem;
use super::schema::{Reader, Scalar, boolean, file, scalar, section};

section! {
    /// TLS to the hosts of a pool.
    pub struct PoolTls: Eq {
        /// The server name that is asked for and verified; without it the host's own name.
        server_name: Option<String> { server_name(), optional "app.internal" },
        /// Whether the host's certificate must be valid. `false` takes any certificate, and an attacker in between can
        /// read along.
        verify: bool { boolean(), default "true" },
        /// A PEM file of authorities that are trusted instead of the system's.
        ca: Option<Authorities> { authorities(), optional "/etc/ballast/authorities.pem" },
    }
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
