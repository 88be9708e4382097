//! Connections for requests that ask for an upgrade, on which no answer overtakes its request.
//!
//! Pingora 0.9.1 ends a tunnel at once when it reads the 101 before it has taken the end of the request's (empty) body
//! from its own queue (cloudflare/pingora#946). A host nearby answers fast enough for that. On a connection of this
//! kind the first read after a write gives way once, so that the queue is looked at first. It goes when Pingora's fix
//! has come.

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

use super::client::Gate;

/// Parts these connections from all others in Pingora's store of idle ones.
const GROUP: u64 = 0x7570_6772_6164_6500;

/// Makes `peer` one that is connected to in this way, and never again used once it is idle. `gate` is that of the client.
pub(super) fn prepare(peer: &mut HttpPeer, gate: Option<Arc<Gate>>) {
    peer.group_key ^= GROUP;
    peer.options.idle_timeout = Some(Duration::ZERO);
    peer.options.custom_l4 = gate.map(|gate| Arc::new(GivingWay(gate)) as _);
}

#[derive(Debug)]
struct GivingWay(Arc<Gate>);

#[async_trait]
impl Connect for GivingWay {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let socket = GivingWaySocket {
            socket: self.0.connect_tcp(address).await?,
            written: false,
        };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

#[derive(Debug)]
struct GivingWaySocket {
    socket: TcpStream,
    /// Since the last read.
    written: bool,
}

impl AsyncRead for GivingWaySocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.written) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for GivingWaySocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl VirtualSocket for GivingWaySocket {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        match option {
            VirtualSockOpt::NoDelay => self.socket.set_nodelay(true),
            // Not asked for: what is silent is ended by the tunnel's time limit.
            _ => Ok(()),
        }
    }
}
