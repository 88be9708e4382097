//! Connections to hosts for requests that ask for an upgrade. They work around a race in Pingora.
//!
//! Pingora 0.9.1 closes a tunnel at once if it reads the 101 before it has taken the end of the request's (empty) body
//! from its own queue (cloudflare/pingora#946). A nearby host responds fast enough for that. On these connections the
//! first read after a write yields once, so that Pingora processes its queue first. This module can be removed once
//! Pingora has fixed the bug.

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
use tokio::net::TcpStream;

use super::host_connector::HostConnector;

/// Keeps these connections apart from all others in Pingora's pool of idle connections.
const GROUP_KEY: u64 = 0x7570_6772_6164_6500;

/// Makes `peer` connect with `connector`, without reuse of idle connections.
pub(super) fn prepare(peer: &mut HttpPeer, connector: Option<HostConnector>) {
    peer.group_key ^= GROUP_KEY;
    peer.options.idle_timeout = Some(Duration::ZERO);
    if let Some(connector) = connector {
        peer.options.custom_l4 = Some(Arc::new(UpgradeConnector(connector)));
    }
}

#[derive(Debug)]
struct UpgradeConnector(HostConnector);

#[async_trait]
impl Connect for UpgradeConnector {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let socket = YieldingSocket {
            socket: self.0.connect_tcp(address).await?,
            has_written: false,
        };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

#[derive(Debug)]
struct YieldingSocket {
    socket: TcpStream,
    /// Whether there was a write since the last read.
    has_written: bool,
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
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for YieldingSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.has_written = true;
        Pin::new(&mut self.socket).poll_write(context, bytes)
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
            VirtualSockOpt::NoDelay => self.socket.set_nodelay(true),
            // Keep-alive is not needed: the tunnel timeout closes idle tunnels.
            _ => Ok(()),
        }
    }
}
