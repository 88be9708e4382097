//! What a listener negotiates with clients over TLS: versions, and how sessions are resumed.

use std::path::PathBuf;

use serde_json::json;

use super::document::Node;
use super::listener::ListenerTls;
use super::schema::{Reader, Scalar, choice, file, section};
use super::secret::{self, Secret};

/// `profile`: Mozilla's recommendation that a listener follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsProfile {
    /// TLS 1.2 and 1.3.
    Intermediate,
    /// TLS 1.3 alone.
    Modern,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

section! {
    /// Session tickets: what clients bring to resume a session, encrypted for this proxy.
    pub struct SessionTickets: Eq, Default {
        /// A file with a secret for their keys, which all instances that clients may come back to have in common, such as the
        /// output of `openssl rand -base64 32`. Who knows it can read what was recorded of TLS 1.2, and pose as this server to
        /// clients with a ticket. Replace its content now and then: new tickets are made from the new secret without a reload
        /// (see server.certificate_check), and those before are good until they expire. Without it keys are random; they pass to a successor at a handover.
        secret_file: Option<Secret> { secret_file(), optional "/etc/ballast/tickets.key" },
    }
}

impl ListenerTls {
    /// The lowest version that is spoken.
    pub fn lowest_version(&self) -> TlsVersion {
        match (self.min_version, self.profile) {
            (Some(version), _) => version,
            (None, TlsProfile::Intermediate) => TlsVersion::Tls12,
            (None, TlsProfile::Modern) => TlsVersion::Tls13,
        }
    }
}

pub(super) fn parts_fit(tls: &mut ListenerTls, map: &Node, reader: &mut Reader<'_>) {
    if tls.certificates.is_empty() && !reader.has_acme {
        let message = "there is no certificate; TLS needs at least one";
        reader.problem_of_key(map, "certificates", message);
    }
    if tls.profile == TlsProfile::Modern && tls.lowest_version() < TlsVersion::Tls13 {
        let message =
            "the profile `modern` is TLS 1.3 alone; leave this out, or take `intermediate`";
        reader.problem_of_key(map, "min_version", message);
    }
    let has_secret = |tickets: &SessionTickets| tickets.secret_file.is_some();
    if tls.client_certificates.is_some() && tls.session_tickets.as_ref().is_some_and(has_secret) {
        let message = "a listener with client_certificates resumes no sessions, so that a revoked certificate lets \
                       no client in; leave this out";
        reader.problem_of_key(map, "session_tickets", message);
    }
}

/// The value of `profile`.
pub(super) fn profile() -> Scalar<TlsProfile> {
    choice(&[
        ("intermediate", TlsProfile::Intermediate),
        ("modern", TlsProfile::Modern),
    ])
}

/// The value of `min_version`.
pub(super) fn version() -> Scalar<TlsVersion> {
    choice(&[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)])
}

fn secret_file() -> Scalar<Secret> {
    let read = |path: PathBuf, reader: &Reader<'_>| secret::secret(&path, reader.environment);
    file("the path of a file", read, |secret: &Secret| {
        json!(secret.file)
    })
}
