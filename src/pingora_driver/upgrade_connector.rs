//! Connections to hosts for requests that ask for an upgrade. They work around a race in Pingora.
//!
//! Pingora 0.9.1 closes a tunnel at once if it reads the 101 before it has taken the end of the request's (empty) body
//! from its own queue (cloudflare/pingora#946). A nearby host responds fast enough for that. On these connections the
//! first read after a write yields once, so that Pingora processes its queue first.
//!
//! Pingora also ends a tunnel as soon as the client has ended its side. A client of HTTP/2 can do so without closing a
//! connection, so its session does not tell Pingora, and these connections pass the end on to the host.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::Result;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::ConnectionState;
use super::host_connector::HostConnector;
use crate::host_socket::HostSocket;

/// Keeps these connections apart from all others in Pingora's pool of idle connections.
const GROUP_KEY: u64 = 0x7570_6772_6164_6500;

/// Makes `peer` connect with `connector` on behalf of `client`, without reuse of idle connections.
pub(super) fn prepare(
    peer: &mut HttpPeer,
    connector: Option<HostConnector>,
    client: Option<Arc<ConnectionState>>,
) {
    peer.group_key ^= GROUP_KEY;
    peer.options.idle_timeout = Some(Duration::ZERO);
    // Beneath TLS an end would be taken for a broken connection. Such a host gets it after `timeouts.read`.
    let client = client.filter(|_| !peer.is_tls());
    if let Some(connector) = connector {
        peer.options.custom_l4 = Some(Arc::new(UpgradeConnector { connector, client }));
    }
}

#[derive(Debug)]
struct UpgradeConnector {
    connector: HostConnector,
    /// The client, if the host is to learn that it has ended its side.
    client: Option<Arc<ConnectionState>>,
}

#[async_trait]
impl Connect for UpgradeConnector {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let socket = YieldingSocket {
            socket: self.connector.open(address).await?,
            has_written: false,
            client: self.client.clone(),
            tunneled: None,
        };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

#[derive(Debug)]
struct YieldingSocket {
    socket: HostSocket,
    /// Whether there was a write since the last read.
    has_written: bool,
    /// The client whose end has not been passed on.
    client: Option<Arc<ConnectionState>>,
    /// The number of bytes written since the first one was read: those of the tunnel, if there is one.
    tunneled: Option<u64>,
}

impl YieldingSocket {
    /// Ends the sending side once all bytes of a client that has ended its side are written.
    fn pass_on_end(&mut self, context: &mut Context<'_>) {
        let end = self
            .client
            .as_ref()
            .and_then(|client| client.tunnel().client_end());
        if end.is_some_and(|end| self.tunneled.is_some_and(|written| written >= end)) {
            self.client = None;
            // Nothing is buffered here, so it is done at once. The reads report a broken connection.
            let _ = Pin::new(&mut self.socket).poll_shutdown(context);
        }
    }
}

impl AsyncRead for YieldingSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.has_written) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.pass_on_end(context);
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.socket).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.tunneled.get_or_insert(0);
        }
        outcome
    }
}

impl AsyncWrite for YieldingSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.has_written = true;
        let outcome = Pin::new(&mut self.socket).poll_write(context, bytes);
        if let (Poll::Ready(Ok(count)), Some(tunneled)) = (&outcome, &mut self.tunneled) {
            *tunneled += *count as u64;
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl VirtualSocket for YieldingSocket {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.socket.set_nodelay(),
            // Keep-alive is not needed: the tunnel timeout closes idle tunnels.
            _ => Ok(()),
        }
    }
}
