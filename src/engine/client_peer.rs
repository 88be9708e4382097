//! The other end of a client's connection, as the listener knows it and as hosts of pools with `proxy_protocol` learn of it.

use std::sync::{Arc, OnceLock};

use super::ClientInfo;
use super::idle_connections;
use super::transport::Transport;
use crate::proxy::forwarding::x_forwarded::ConnectionInfo;
use crate::proxy_protocol::ProxiedConnection;

/// The other end of a client's connection. Dropping it closes the idle connections to hosts that only this client may use,
/// so it must be dropped by the thread that serves the client.
#[derive(Debug)]
pub(super) struct ClientPeer {
    pub(super) info: ClientInfo,
    proxied: OnceLock<Arc<ProxiedConnection>>,
}

impl ClientPeer {
    pub(super) fn new(info: ClientInfo) -> Self {
        ClientPeer {
            info,
            proxied: OnceLock::new(),
        }
    }

    /// The client's connection.
    pub(super) fn connection(&self) -> ConnectionInfo<'_> {
        ConnectionInfo {
            tls: self.info.tls,
            local: self.info.listener,
            verification: self.info.verification.as_ref(),
            // A request for which that matters has described it.
            proxied: self.proxied.get(),
        }
    }

    /// The connection over `socket` as hosts learn of it. It is described when that is first needed, because most clients
    /// need it never.
    pub(super) fn describe(&self, socket: &Transport) -> &Arc<ProxiedConnection> {
        self.proxied.get_or_init(|| {
            let (source, destination) = (self.info.address, self.info.destination);
            Arc::new(match socket {
                Transport::Tcp(socket) => {
                    let destination = destination.or_else(|| socket.local_address());
                    ProxiedConnection::new(source, destination.or(self.info.listener), None)
                }
                Transport::Tls(stream) => ProxiedConnection::of_stream(stream, source, destination),
            })
        })
    }
}

impl Drop for ClientPeer {
    fn drop(&mut self) {
        if let Some(client) = self.proxied.get() {
            idle_connections::close_owned(client.id());
        }
    }
}
