//! A site over TLS: certificates, hosts and clients of one test.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;

use super::tls::{Authority, Identity};
use super::{Backend, LISTEN, Setup};

/// A listener with a certificate for `a.test` and `test`, authorities of servers and clients, and a host. The certificate is
/// in `a.crt` and `a.key`, the authorities in `servers.pem` and `clients.pem`.
pub(crate) struct TlsSite {
    folder: TempDir,
    pub(crate) servers: Authority,
    pub(crate) clients: Authority,
    pub(crate) identity: Identity,
    pub(crate) backend: Backend,
}

impl TlsSite {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let [servers, clients] = ["servers", "clients"].map(Authority::new);
        let identity = servers.issue(&["a.test", "test"]);
        identity.write(folder.path(), "a");
        servers.write(folder.path(), "servers.pem");
        clients.write(folder.path(), "clients.pem");
        TlsSite {
            folder,
            servers,
            clients,
            identity,
            backend: Backend::start_new("a"),
        }
    }

    /// The folder of its files.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The key `listeners` with one that has these further keys in `tls`, as in `, http2: false`.
    pub(crate) fn listeners(&self, further: &str) -> String {
        let folder = self.path().display();
        format!(
            "listeners: [{{ address: \"{LISTEN}\", tls: {{ certificates: {{ certificate: {folder}/a.crt, key: {folder}/a.key }}{further} }} }}]"
        )
    }

    /// The keys of a listener that asks clients for certificates, with these further keys about them.
    pub(crate) fn asking(&self, further: &str) -> String {
        let folder = self.path().display();
        format!(", client_certificates: {{ ca: {folder}/clients.pem{further} }}")
    }

    /// A configuration with such a listener.
    pub(crate) fn setup(&self, further: &str) -> Setup {
        Setup::of(&[&self.backend]).top(&self.listeners(further))
    }

    /// Clients of TLS 1.2 and of TLS 1.3 without sessions, which show this certificate.
    pub(crate) fn clients(&self, identity: Option<&Identity>) -> [Arc<ClientConfig>; 2] {
        [&TLS12, &TLS13].map(|version| self.servers.client_with(identity, &[version]))
    }
}
