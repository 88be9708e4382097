//! Sockets to hosts: TCP, or a Unix socket.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::{Error, ErrorType, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

use crate::connect_error::connect_error;

/// The first wait while the backlog of a Unix socket is full, in which a busy host accepts a connection; each further wait
/// is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(1);

/// The longest of these waits: a host that needs longer adds no noticeable delay to it.
const LONGEST_WAIT: Duration = Duration::from_millis(32);

/// A connected socket to a host, registered with this thread's runtime.
#[derive(Debug)]
pub(crate) enum HostSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl HostSocket {
    /// Opens a connection. The caller limits the time.
    ///
    /// # Errors
    /// Pingora's connect errors.
    pub(crate) async fn connect(address: &SocketAddr) -> Result<Self> {
        match address {
            SocketAddr::Inet(inet) => {
                let connected = TcpStream::connect(inet).await;
                let socket = connected.map_err(|error| connect_error(error, address))?;
                Ok(HostSocket::Tcp(socket))
            }
            SocketAddr::Unix(unix) => {
                let Some(path) = unix.as_pathname() else {
                    return Error::e_explain(ErrorType::ConnectError, "a socket without a path");
                };
                let connected = connect_unix(path).await;
                let socket = connected.and_then(UnixStream::from_std);
                let socket = socket.map_err(|error| connect_error(error, address))?;
                Ok(HostSocket::Unix(socket))
            }
        }
    }

    /// Sends small segments at once, where there are segments.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            HostSocket::Tcp(socket) => socket.set_nodelay(true),
            HostSocket::Unix(_) => Ok(()),
        }
    }
}

/// Opens a non-blocking connection to the Unix socket at `path`. Waits while its backlog is full, as the kernel does for
/// TCP, so the caller has to limit the time.
pub(crate) async fn connect_unix(path: &Path) -> io::Result<StdUnixStream> {
    let socket = unix_socket()?;
    connect_unix_socket(&socket, path).await?;
    Ok(socket.into())
}

/// A non-blocking Unix socket that is not connected.
pub(crate) fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    Ok(socket?)
}

/// Connects what [`unix_socket`] has returned, as [`connect_unix`] does.
pub(crate) async fn connect_unix_socket(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    let address = SocketAddrUnix::new(path)?;
    let mut wait = FIRST_WAIT;
    loop {
        match rustix::net::connect(socket, &address) {
            Ok(()) => return Ok(()),
            // The kernel does not tell when there is room.
            Err(Errno::AGAIN) => {
                sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connects to Unix sockets for Pingora, whose own connections fail while a backlog is full.
#[derive(Debug)]
pub(crate) struct UnixConnector;

#[async_trait]
impl Connect for UnixConnector {
    // Pingora limits the time of this call.
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        Ok(HostSocket::connect(address).await?.into())
    }
}

impl From<HostSocket> for Stream {
    fn from(socket: HostSocket) -> Self {
        match socket {
            HostSocket::Tcp(socket) => socket.into(),
            HostSocket::Unix(socket) => socket.into(),
        }
    }
}

impl AsyncRead for HostSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            HostSocket::Tcp(socket) => Pin::new(socket).poll_read(context, buffer),
            HostSocket::Unix(socket) => Pin::new(socket).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for HostSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            HostSocket::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
            HostSocket::Unix(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Neither buffers.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            HostSocket::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            HostSocket::Unix(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_full_backlog_delays_a_connection() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("host");
        let listener = UnixListener::bind(&path).expect("bound");
        rustix::net::listen(&listener, 0).expect("a backlog for one connection");
        let _first = connect_unix(&path).await.expect("room");
        let second = tokio::spawn(async move { connect_unix(&path).await });
        let accepting = tokio::task::spawn_blocking(move || {
            let both = [listener.accept(), listener.accept()];
            both.map(|accepted| accepted.is_ok())
        });
        assert!(second.await.expect("no panic").is_ok());
        assert_eq!(accepting.await.expect("no panic"), [true, true]);
    }
}
