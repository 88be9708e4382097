//! Opens connections to hosts that begin with a PROXY header, also for Pingora.

use async_trait::async_trait;
use bytes::Bytes;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::{ErrorType, OrErr, Result};
use tokio::io::AsyncWriteExt;

use super::header;
use crate::config::ProxyProtocolVersion;
use crate::host_socket::HostSocket;

/// Opens connections that begin with a header. What uses it limits the time.
#[derive(Debug)]
pub(crate) struct ProxyConnector {
    header: Bytes,
}

impl ProxyConnector {
    /// For connections that begin with `header`.
    pub(crate) fn new(header: Bytes) -> Self {
        ProxyConnector { header }
    }

    /// For connections of this process itself, such as those of health checks, which belong to no client.
    pub(crate) fn without_client(version: ProxyProtocolVersion) -> Self {
        ProxyConnector::new(header::without_client(version))
    }
}

#[async_trait]
impl Connect for ProxyConnector {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let mut socket = HostSocket::connect(address).await?;
        send_header(&mut socket, &self.header).await?;
        Ok(socket.into())
    }
}

/// Sends the header on a new connection. It does not wait: the empty send buffer has room for the header.
pub(crate) async fn send_header(socket: &mut HostSocket, header: &[u8]) -> Result<()> {
    let sent = socket.write_all(header).await;
    sent.or_err(ErrorType::ConnectError, "the PROXY header")
}
