//! The Pingora driver: `impl ProxyHttp`, which calls [`proxy`](crate::proxy) for each decision in the order of
//! Pingora's phases, and the client's connection as Pingora sees it.
//!
//! It serves requests to hosts of HTTP/2 and calls of gRPC, and with `http1: pingora` all requests. The connections of
//! HTTP/2 clients are its own in any case; the engine takes single requests of them.

pub(crate) mod client;
mod deadlines;
pub(crate) mod header_rules;
mod host_connector;
mod proxy_http;
mod respond;
mod upgrade_connector;
mod upstream_filters;

use std::sync::Arc;

use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::tls::SslDigest;
use pingora::proxy::Session;

use crate::client_certificate::ClientVerification;
use crate::proxy::forwarding::x_forwarded::{ConnectionInfo, LocalAddress};
use crate::proxy_protocol::ProxiedConnection;

pub use client::{ClientStream, PanicGuard};

/// The client's connection.
fn connection(session: &Session) -> ConnectionInfo<'_> {
    ConnectionInfo {
        tls: is_over_tls(session),
        local: session.server_addr().and_then(local_address),
        verification: verification(session),
        proxied: proxied(session),
    }
}

/// An address in the terms of the proxy.
fn local_address(address: &SocketAddr) -> Option<LocalAddress<'_>> {
    match address {
        SocketAddr::Inet(address) => Some(LocalAddress::Inet(*address)),
        SocketAddr::Unix(address) => address.as_pathname().map(LocalAddress::Unix),
    }
}

/// The client's connection as hosts of pools with `proxy_protocol` learn of it. `None`: a foreign listener accepted it.
fn proxied(session: &Session) -> Option<&Arc<ProxiedConnection>> {
    let state = client::state_of(session.as_downstream())?;
    Some(&state.peer().proxied)
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
