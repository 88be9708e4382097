//! The PROXY protocol to hosts: each connection begins with a header that names the client for which it was opened.
//!
//! The client is the one of the connection: that of the TCP connection, or that which a trusted load balancer in front has
//! named in its own PROXY header. X-Forwarded-For is not looked at, because it belongs to a single request, and the header
//! to all requests of the connection. So a connection to a host serves one connection of a client and no other.
//!
//! The specification is <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>.

mod connector;
mod header;

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pingora::listeners::ALPN;
use pingora::protocols::Stream;
use pingora::upstreams::peer::HttpPeer;

use crate::client_certificate::ClientVerification;
use crate::config::ProxyProtocolVersion;

pub(crate) use connector::{ProxyConnector, send_header};

/// A client's connection, as hosts learn of it.
#[derive(Debug, PartialEq, Eq)]
pub struct ProxiedConnection {
    id: NonZeroU64,
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    tls: Option<ClientTls>,
}

/// The TLS of a client's connection.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientTls {
    version: Cow<'static, str>,
    cipher: Cow<'static, str>,
    alpn: Option<&'static str>,
    server_name: Option<String>,
    verification: Option<Arc<ClientVerification>>,
}

impl ProxiedConnection {
    /// A connection of `source`, the client, to `destination`. `None`: the address is not known.
    pub fn new(
        source: Option<SocketAddr>,
        destination: Option<SocketAddr>,
        tls: Option<ClientTls>,
    ) -> Self {
        ProxiedConnection {
            id: next_id(),
            source,
            destination,
            tls,
        }
    }

    /// The connection of `source` behind `stream`. `destination` is what a load balancer in front names; `None`: it is the
    /// address at this end of the connection.
    pub fn of_stream(
        stream: &Stream,
        source: Option<SocketAddr>,
        destination: Option<SocketAddr>,
    ) -> Self {
        let digest = stream.get_socket_digest();
        let local = || {
            let local = digest.as_ref()?.local_addr()?;
            local.as_inet().copied()
        };
        ProxiedConnection::new(source, destination.or_else(local), ClientTls::of(stream))
    }

    /// The number of the connection, which no other connection of this process has.
    pub fn id(&self) -> NonZeroU64 {
        self.id
    }

    /// The header with which a connection to a host begins.
    pub fn header(&self, version: ProxyProtocolVersion) -> Bytes {
        header::of_client(self, version)
    }

    /// Makes `peer` open connections that begin with the header, and keeps them apart from those of other clients.
    pub fn open_private(&self, peer: &mut HttpPeer, version: ProxyProtocolVersion) {
        peer.group_key = self.group_key(peer.group_key);
        peer.options.custom_l4 = Some(Arc::new(ProxyConnector::new(self.header(version))));
    }

    /// What stands in place of `group_key` for connections that only this client's connection may use.
    pub fn group_key(&self, group_key: u64) -> u64 {
        let mut hasher = DefaultHasher::new();
        (group_key, self.id).hash(&mut hasher);
        hasher.finish()
    }
}

/// Numbers the connections of clients.
fn next_id() -> NonZeroU64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let before = LAST.fetch_add(1, Ordering::Relaxed);
    // 2⁶⁴ connections are never reached.
    NonZeroU64::MIN.saturating_add(before)
}

impl ClientTls {
    /// The TLS of `stream`; `None` if it has none.
    fn of(stream: &Stream) -> Option<Self> {
        let digest = stream.get_ssl_digest()?;
        let server_name = stream.get_ssl().and_then(|tls| tls.server_name());
        Some(ClientTls {
            version: digest.version.clone(),
            cipher: digest.cipher.clone(),
            alpn: match stream.selected_alpn_proto() {
                Some(ALPN::H2) => Some("h2"),
                Some(ALPN::H1) => Some("http/1.1"),
                _ => None,
            },
            server_name: server_name.map(str::to_owned),
            verification: ClientVerification::of(&digest).cloned(),
        })
    }
}
