//! The Pingora driver: `impl ProxyHttp`, which calls [`proxy`](crate::proxy) for each decision in the order of
//! Pingora's phases, and the client's connection as Pingora sees it.
//!
//! It serves requests to hosts of HTTP/2 and calls of gRPC, and with `http1: pingora` all requests. The connections of
//! HTTP/2 clients are its own in any case; the engine takes single requests of them.

pub(crate) mod client;
mod deadlines;
pub(crate) mod header_rules;
mod proxy_http;
mod respond;
mod upgrade_connector;
mod upstream_filters;

use std::sync::Arc;

use pingora::protocols::tls::SslDigest;
use pingora::proxy::Session;

use crate::client_certificate::ClientVerification;
use crate::proxy::forwarding::x_forwarded::ConnectionInfo;

pub use client::{ClientStream, PanicGuard};

/// The client's connection.
fn connection(session: &Session) -> ConnectionInfo<'_> {
    let local = session.server_addr().and_then(|local| local.as_inet());
    ConnectionInfo {
        tls: is_over_tls(session),
        local: local.copied(),
        verification: verification(session).map(|verification| &**verification),
    }
}

/// What the listener knows of the client's certificate. `None`: it asks for none.
fn verification(session: &Session) -> Option<&Arc<ClientVerification>> {
    ClientVerification::of(tls_digest(session)?)
}

/// Whether the client's connection is encrypted.
fn is_over_tls(session: &Session) -> bool {
    tls_digest(session).is_some()
}

fn tls_digest(session: &Session) -> Option<&SslDigest> {
    session.digest()?.ssl_digest.as_deref()
}
