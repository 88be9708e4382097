//! A TCP socket that registers with the runtime only when it first has to wait.
//!
//! It also carries a connected Unix socket. A `TcpStream` reads, writes and shuts it down with the same system calls; only
//! its addresses and TCP's options are not there.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A non-blocking TCP socket with lazy registration. If the request has already arrived when the connection is
/// accepted, and the connection closes after the response, the socket never enters epoll: this saves the registration,
/// the deregistration and one event.
#[derive(Debug)]
pub struct LazyTcp(TcpState);

#[derive(Debug)]
enum TcpState {
    /// Not registered. `drained` is set after a short read, which means that the receive buffer is probably empty.
    Unregistered {
        socket: StdTcpStream,
        drained: bool,
    },
    Registered(TcpStream),
    /// Registration failed; the socket is closed.
    Lost,
}

impl From<StdTcpStream> for LazyTcp {
    /// `socket` must be in non-blocking mode.
    fn from(socket: StdTcpStream) -> Self {
        LazyTcp(TcpState::Unregistered {
            socket,
            drained: false,
        })
    }
}

impl From<TcpStream> for LazyTcp {
    fn from(socket: TcpStream) -> Self {
        LazyTcp(TcpState::Registered(socket))
    }
}

impl LazyTcp {
    /// Registers the socket with this thread's runtime, unless it is registered already.
    ///
    /// # Errors
    /// The runtime cannot register the socket.
    pub fn into_registered(mut self) -> io::Result<TcpStream> {
        self.registered()?;
        match self.0 {
            TcpState::Registered(socket) => Ok(socket),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// The address at this end of the connection. `None`: the system does not tell it.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        match &self.0 {
            TcpState::Unregistered { socket, .. } => socket.local_addr().ok(),
            TcpState::Registered(socket) => socket.local_addr().ok(),
            TcpState::Lost => None,
        }
    }

    /// Whether the socket is not registered with the runtime yet.
    pub(super) fn is_unregistered(&self) -> bool {
        matches!(self.0, TcpState::Unregistered { .. })
    }

    /// Whether a read would probably return data.
    pub(super) fn is_readable(&self) -> bool {
        match &self.0 {
            TcpState::Unregistered { drained, .. } => !drained,
            TcpState::Registered(socket) => {
                let mut context = Context::from_waker(Waker::noop());
                socket.poll_read_ready(&mut context).is_ready()
            }
            TcpState::Lost => false,
        }
    }

    /// Makes the next read try the socket, even after a short read.
    pub(super) fn assume_readable(&mut self) {
        if let TcpState::Unregistered { drained, .. } = &mut self.0 {
            *drained = false;
        }
    }

    fn registered(&mut self) -> io::Result<&mut TcpStream> {
        if let TcpState::Unregistered { .. } = self.0
            && let TcpState::Unregistered { socket, .. } = mem::replace(&mut self.0, TcpState::Lost)
        {
            self.0 = TcpState::Registered(TcpStream::from_std(socket)?);
        }
        match &mut self.0 {
            TcpState::Registered(socket) => Ok(socket),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Ready if a read may return data; otherwise the task is woken once it may.
    pub(super) fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            TcpState::Unregistered { drained: false, .. } => Poll::Ready(Ok(())),
            _ => self.registered()?.poll_read_ready(context),
        }
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        read_buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let TcpState::Unregistered { socket, drained } = &mut self.0
            && !*drained
        {
            let space = read_buf.initialize_unfilled();
            match socket.read(space) {
                Ok(count) => {
                    *drained = count < space.len();
                    read_buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if would_block(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Pin::new(self.registered()?).poll_read(context, read_buf)
    }

    /// Reads available bytes without waiting.
    pub(super) fn try_read(&mut self, read_buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            TcpState::Unregistered { socket, .. } => socket.read(read_buf),
            TcpState::Registered(socket) => socket.try_read(read_buf),
            TcpState::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Writes a prefix of the concatenated `parts`.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        parts: [&[u8]; 2],
    ) -> Poll<io::Result<usize>> {
        if let TcpState::Unregistered { socket, .. } = &mut self.0 {
            let written = match parts {
                [part, []] | [[], part] => socket.write(part),
                parts => socket.write_vectored(&parts.map(IoSlice::new)),
            };
            match written {
                Err(error) if would_block(&error) => {}
                written => return Poll::Ready(written),
            }
        }
        let socket = Pin::new(self.registered()?);
        match parts {
            // One part: `send` costs the kernel less than `writev`.
            [part, []] | [[], part] => socket.poll_write(context, part),
            parts => socket.poll_write_vectored(context, &parts.map(IoSlice::new)),
        }
    }

    /// Shuts down the sending side.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let TcpState::Unregistered { socket, .. } = &self.0 {
            return Poll::Ready(socket.shutdown(Shutdown::Write));
        }
        Pin::new(self.registered()?).poll_shutdown(context)
    }
}

/// Whether the call should be retried once the socket is ready.
fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::{TcpListener, TcpStream as StdTcpStream};

    use super::*;

    fn pair() -> (StdTcpStream, LazyTcp) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = StdTcpStream::connect(listener.local_addr().expect("bound"));
        let (accepted, _) = listener.accept().expect("a connection");
        accepted.set_nonblocking(true).expect("a socket");
        (client.expect("connected"), LazyTcp::from(accepted))
    }

    async fn read(socket: &mut LazyTcp) -> io::Result<Vec<u8>> {
        let mut space = [0; 16];
        let mut read_buf = ReadBuf::new(&mut space);
        poll_fn(|context| socket.poll_read(context, &mut read_buf)).await?;
        Ok(read_buf.filled().to_vec())
    }

    #[tokio::test]
    async fn a_socket_registers_when_a_read_has_to_wait() {
        let (mut client, mut socket) = pair();
        client.write_all(b"one").expect("sent");
        assert_eq!(read(&mut socket).await.expect("bytes"), b"one");
        let written = poll_fn(|context| socket.poll_write(context, [b"two", b""])).await;
        assert_eq!(written.expect("a write"), 3);
        assert!(socket.is_unregistered());
        let mut received = [0; 3];
        client.read_exact(&mut received).expect("three bytes");
        assert_eq!(&received, b"two");
        let more = std::thread::spawn(move || client.write_all(b"more").map(|()| client));
        assert_eq!(read(&mut socket).await.expect("bytes"), b"more");
        assert!(!socket.is_unregistered());
        drop(more.join().expect("no panic"));
        assert_eq!(read(&mut socket).await.expect("the end"), b"");
    }

    #[tokio::test]
    async fn a_write_that_had_to_wait_continues() {
        let (mut client, mut socket) = pair();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).map(|_| all.len())
        });
        let (bytes, mut sent) = (vec![b'x'; 32 << 20], 0);
        while sent < bytes.len() {
            let parts = [&bytes[sent..], b""];
            let written = poll_fn(|context| socket.poll_write(context, parts)).await;
            sent += written.expect("a write");
        }
        drop(socket);
        assert_eq!(reader.join().expect("no panic").expect("all"), 32 << 20);
    }
}
