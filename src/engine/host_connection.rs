//! Opens connections to hosts.

use std::io::{self, ErrorKind};
use std::net::TcpStream as StdTcpStream;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pingora::connectors::TransportConnector;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::lazy_tcp::LazyTcp;
use super::transport::Transport;
use crate::connect_error::connect_error;
use crate::host_socket::connect_unix;
use crate::host_tls::HostTls;

/// A connection to a host.
pub(super) struct HostConnection {
    pub(super) socket: Transport,
    pub(super) key: PoolKey,
}

/// What may use a connection: either all requests to a peer, or those of one client's connection, its owner. In one word,
/// because each request has room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PoolKey(u64);

impl PoolKey {
    /// The mark of an owner. So many connections of clients are never reached, and a hash can spare the bit.
    const OWNED: u64 = 1 << 63;

    /// For the requests of `owner`, or for all requests to the peer with this hash.
    pub(super) fn new(owner: Option<NonZeroU64>, peer_hash: u64) -> Self {
        PoolKey(match owner {
            Some(owner) => owner.get() | PoolKey::OWNED,
            None => peer_hash & !PoolKey::OWNED,
        })
    }

    /// Whether the connection has an owner. Its connections may lead to several peers.
    pub(super) fn is_owned(self) -> bool {
        self.0 & PoolKey::OWNED != 0
    }
}

/// Opens a connection to `peer`, for the client's connection `owner` alone if there is one.
///
/// # Errors
/// Pingora's connect errors, marked as upstream errors.
pub(super) async fn connect(
    connector: &TransportConnector,
    (peer, tls): (&HttpPeer, Option<&HostTls>),
    owner: Option<NonZeroU64>,
) -> Result<HostConnection> {
    let socket = match (tls, &peer._address) {
        (None, SocketAddr::Inet(address)) => {
            let limit = peer.options.connection_timeout;
            let socket = in_time(limit, TcpStream::connect(address), &peer._address).await?;
            // Heads are written in one call, so delaying small segments gains nothing.
            let _ = socket.set_nodelay(true);
            Transport::Tcp(socket.into())
        }
        (None, SocketAddr::Unix(address)) => {
            let Some(path) = address.as_pathname() else {
                let reason = "a socket without a path";
                return Err(Error::explain(ErrorType::ConnectError, reason).into_up());
            };
            let limit = peer.options.connection_timeout;
            let socket = in_time(limit, connect_unix(path), &peer._address).await?;
            Transport::Tcp(LazyTcp::from(StdTcpStream::from(OwnedFd::from(socket))))
        }
        (Some(tls), _) => {
            let connected = tls.connect(connector, peer).await;
            Transport::Tls(connected.map_err(|error| error.into_up())?)
        }
    };
    Ok(HostConnection {
        socket,
        key: PoolKey::new(owner, peer.reuse_hash()),
    })
}

/// The connection that `connecting` opens to `address` within `limit`.
async fn in_time<T>(
    limit: Option<Duration>,
    connecting: impl Future<Output = io::Result<T>>,
    address: &SocketAddr,
) -> Result<T> {
    let connected = match limit {
        Some(limit) => match timeout(limit, connecting).await {
            Ok(connected) => connected,
            Err(_) => {
                let late = format!("no connection to {address} in time");
                return Err(Error::explain(ErrorType::ConnectTimedout, late).into_up());
            }
        },
        None => connecting.await,
    };
    connected.map_err(|error| connect_error(error, address).into_up())
}

impl HostConnection {
    /// Re-registers a connection of another thread with this thread's runtime.
    pub(super) fn move_to_this_thread(self) -> Option<Self> {
        let socket = match self.socket {
            Transport::Tcp(socket) => {
                let socket = socket.into_registered().ok()?.into_std();
                Transport::Tcp(socket.and_then(TcpStream::from_std).ok()?.into())
            }
            // A TLS stream stays registered with the other thread's runtime, which wakes this task.
            tls @ Transport::Tls(_) => tls,
        };
        Some(HostConnection { socket, ..self })
    }

    /// Whether the idle connection has neither received bytes nor been closed. A host must not send anything before the
    /// next request.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        match &mut self.socket {
            Transport::Tcp(socket) => {
                matches!(socket.try_read(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock)
            }
            Transport::Tls(socket) => {
                let mut context = Context::from_waker(Waker::noop());
                let mut read_buf = ReadBuf::new(&mut byte);
                let read = Pin::new(socket).poll_read(&mut context, &mut read_buf);
                matches!(read, Poll::Pending)
            }
        }
    }
}
