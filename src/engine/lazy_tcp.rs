//! A TCP socket that is told of events only once it has to wait for one.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem;
use std::net::{Shutdown, TcpStream as StdTcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP socket that never blocks. A connection that has its request when it is accepted, and ends after the answer, is
/// spared the registration with the runtime's poll, its end, and an event in between.
#[derive(Debug)]
pub struct LazyTcp(TcpState);

#[derive(Debug)]
enum TcpState {
    /// Not registered; `drained` once a read has not filled its room, so that nothing more is likely to be there.
    Unregistered {
        socket: StdTcpStream,
        drained: bool,
    },
    Registered(TcpStream),
    /// The runtime has not taken it.
    Lost,
}

impl From<StdTcpStream> for LazyTcp {
    /// `socket` must not block.
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
    /// Registers it with the runtime of this thread, if it is not.
    ///
    /// # Errors
    /// If the runtime does not take it.
    pub fn into_registered(mut self) -> io::Result<TcpStream> {
        self.registered()?;
        match self.0 {
            TcpState::Registered(socket) => Ok(socket),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Whether the runtime does not report events of this socket yet.
    pub(super) fn is_unregistered(&self) -> bool {
        matches!(self.0, TcpState::Unregistered { .. })
    }

    /// Whether more seems to be there to be read.
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

    /// Has the next read tried, whatever is known of the socket.
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

    /// Whether a read is worth a try; if not, the task will be woken when it is.
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

    /// Reads what has come.
    pub(super) fn try_read(&mut self, read_buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            TcpState::Unregistered { socket, .. } => socket.read(read_buf),
            TcpState::Registered(socket) => socket.try_read(read_buf),
            TcpState::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Writes some of `parts`, one behind the other.
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
            // send, which costs the kernel less than writev.
            [part, []] | [[], part] => socket.poll_write(context, part),
            parts => socket.poll_write_vectored(context, &parts.map(IoSlice::new)),
        }
    }

    /// Ends our side of the connection.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let TcpState::Unregistered { socket, .. } = &self.0 {
            return Poll::Ready(socket.shutdown(Shutdown::Write));
        }
        Pin::new(self.registered()?).poll_shutdown(context)
    }
}

/// Whether an attempt came to nothing yet.
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
        let (accepted, _) = listener.accept().expect("there is one");
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
    async fn it_is_registered_when_it_has_to_wait() {
        let (mut client, mut socket) = pair();
        client.write_all(b"one").expect("sent");
        assert_eq!(read(&mut socket).await.expect("bytes"), b"one");
        let written = poll_fn(|context| socket.poll_write(context, [b"two", b""])).await;
        assert_eq!(written.expect("room"), 3);
        assert!(socket.is_unregistered());
        let mut answer = [0; 3];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"two");
        let more = std::thread::spawn(move || client.write_all(b"more").map(|()| client));
        assert_eq!(read(&mut socket).await.expect("bytes"), b"more");
        assert!(!socket.is_unregistered());
        drop(more.join().expect("no panic"));
        assert_eq!(read(&mut socket).await.expect("the end"), b"");
    }

    #[tokio::test]
    async fn a_write_that_has_to_wait_goes_on_when_there_is_room() {
        let (mut client, mut socket) = pair();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).map(|_| all.len())
        });
        let (bytes, mut sent) = (vec![b'x'; 32 << 20], 0);
        while sent < bytes.len() {
            let parts = [&bytes[sent..], b""];
            let written = poll_fn(|context| socket.poll_write(context, parts)).await;
            sent += written.expect("room");
        }
        drop(socket);
        assert_eq!(reader.join().expect("no panic").expect("all"), 32 << 20);
    }
}
