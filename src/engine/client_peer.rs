//! The other end of a client's connection, as the listener knows it and as hosts of pools with `proxy_protocol` learn of it.

use std::sync::{Arc, OnceLock};

use super::ClientInfo;
use super::client_transport::ClientTransport;
use super::idle_connections;
use super::transport::Transport;
use crate::config::ListenerAddress;
use crate::proxy::forwarding::x_forwarded::{ConnectionInfo, LocalAddress};
use crate::proxy_protocol::ProxiedConnection;

/// The other end of a client's connection. Dropping it closes the idle connections to hosts that only this client may use,
/// so it must be dropped by the thread that serves the client; that of a stream leaves them to the other streams.
#[derive(Debug)]
pub(super) struct ClientPeer {
    pub(super) info: ClientInfo,
    proxied: OnceLock<Arc<ProxiedConnection>>,
    is_stream: bool,
}

impl ClientPeer {
    pub(super) fn new(info: ClientInfo) -> Self {
        ClientPeer {
            info,
            proxied: OnceLock::new(),
            is_stream: false,
        }
    }

    /// The other end of a stream of `connection`.
    pub(super) fn of_stream(info: ClientInfo, connection: Arc<ProxiedConnection>) -> Self {
        ClientPeer {
            info,
            proxied: OnceLock::from(connection),
            is_stream: true,
        }
    }

    /// The client's connection.
    pub(super) fn connection(&self) -> ConnectionInfo<'_> {
        ConnectionInfo {
            tls: self.info.tls,
            local: self.info.listener.as_ref().map(LocalAddress::from),
            verification: self.info.verification.as_ref(),
            // A request for which that matters has described it.
            proxied: self.proxied.get(),
        }
    }

    /// The connection over `transport` as hosts learn of it. It is described when that is first needed, because most clients
    /// need it never.
    pub(super) fn describe(&self, transport: &ClientTransport) -> &Arc<ProxiedConnection> {
        self.proxied.get_or_init(|| {
            let (source, destination) = (self.info.address, self.info.destination);
            let listener = self.info.listener.as_ref();
            let of_tcp = |destination: Option<_>| {
                let listener = || listener.and_then(ListenerAddress::as_inet);
                ProxiedConnection::new(source, destination.or_else(listener), None)
            };
            Arc::new(match transport {
                ClientTransport::Socket(Transport::Tcp(socket)) => {
                    of_tcp(destination.or_else(|| socket.local_address()))
                }
                ClientTransport::Socket(Transport::Tls(stream)) => {
                    ProxiedConnection::of_stream(stream, source, destination)
                }
                // It has been described for the whole connection.
                ClientTransport::Http2(_) => of_tcp(destination),
            })
        })
    }
}

impl Drop for ClientPeer {
    fn drop(&mut self) {
        if let Some(client) = self.proxied.get()
            && !self.is_stream
        {
            idle_connections::close_owned(client.id());
        }
    }
}
