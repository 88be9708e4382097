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
pub struct Tcp(State);

#[derive(Debug)]
enum State {
    /// Not registered; `drained` once a read has not filled its room, so that nothing more is likely to be there.
    New {
        socket: StdTcpStream,
        drained: bool,
    },
    Registered(TcpStream),
    /// The runtime has not taken it.
    Lost,
}

impl From<StdTcpStream> for Tcp {
    /// `socket` must not block.
    fn from(socket: StdTcpStream) -> Self {
        Tcp(State::New {
            socket,
            drained: false,
        })
    }
}

impl From<TcpStream> for Tcp {
    fn from(socket: TcpStream) -> Self {
        Tcp(State::Registered(socket))
    }
}

impl Tcp {
    /// Registers it with the runtime of this thread, if it is not.
    ///
    /// # Errors
    /// If the runtime does not take it.
    pub fn into_registered(mut self) -> io::Result<TcpStream> {
        self.registered()?;
        match self.0 {
            State::Registered(socket) => Ok(socket),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Whether the runtime does not report events of this socket yet.
    pub(super) fn is_new(&self) -> bool {
        matches!(self.0, State::New { .. })
    }

    /// Whether more seems to be there to be read.
    pub(super) fn is_readable(&self) -> bool {
        match &self.0 {
            State::New { drained, .. } => !drained,
            State::Registered(socket) => {
                let mut context = Context::from_waker(Waker::noop());
                socket.poll_read_ready(&mut context).is_ready()
            }
            State::Lost => false,
        }
    }

    /// Has the next read tried, whatever is known of the socket.
    pub(super) fn look_again(&mut self) {
        if let State::New { drained, .. } = &mut self.0 {
            *drained = false;
        }
    }

    fn registered(&mut self) -> io::Result<&mut TcpStream> {
        if let State::New { .. } = self.0
            && let State::New { socket, .. } = mem::replace(&mut self.0, State::Lost)
        {
            self.0 = State::Registered(TcpStream::from_std(socket)?);
        }
        match &mut self.0 {
            State::Registered(socket) => Ok(socket),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Whether a read is worth a try; if not, the task will be woken when it is.
    pub(super) fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            State::New { drained: false, .. } => Poll::Ready(Ok(())),
            _ => self.registered()?.poll_read_ready(context),
        }
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let State::New { socket, drained } = &mut self.0
            && !*drained
        {
            let space = room.initialize_unfilled();
            match socket.read(space) {
                Ok(count) => {
                    *drained = count < space.len();
                    room.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if has_to_wait(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Pin::new(self.registered()?).poll_read(context, room)
    }

    /// Reads what has come.
    pub(super) fn try_read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            State::New { socket, .. } => socket.read(room),
            State::Registered(socket) => socket.try_read(room),
            State::Lost => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Writes some of `parts`, one behind the other.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        parts: [&[u8]; 2],
    ) -> Poll<io::Result<usize>> {
        if let State::New { socket, .. } = &mut self.0 {
            let written = match parts {
                [part, []] | [[], part] => socket.write(part),
                parts => socket.write_vectored(&parts.map(IoSlice::new)),
            };
            match written {
                Err(error) if has_to_wait(&error) => {}
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
        if let State::New { socket, .. } = &self.0 {
            return Poll::Ready(socket.shutdown(Shutdown::Write));
        }
        Pin::new(self.registered()?).poll_shutdown(context)
    }
}

/// Whether an attempt came to nothing yet.
fn has_to_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::{TcpListener, TcpStream as StdTcpStream};

    use super::*;

    fn pair() -> (StdTcpStream, Tcp) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = StdTcpStream::connect(listener.local_addr().expect("bound"));
        let (accepted, _) = listener.accept().expect("there is one");
        accepted.set_nonblocking(true).expect("a socket");
        (client.expect("connected"), Tcp::from(accepted))
    }

    async fn read(socket: &mut Tcp) -> io::Result<Vec<u8>> {
        let mut space = [0; 16];
        let mut room = ReadBuf::new(&mut space);
        poll_fn(|context| socket.poll_read(context, &mut room)).await?;
        Ok(room.filled().to_vec())
    }

    #[tokio::test]
    async fn it_is_registered_when_it_has_to_wait() {
        let (mut client, mut socket) = pair();
        client.write_all(b"one").expect("sent");
        assert_eq!(read(&mut socket).await.expect("bytes"), b"one");
        let written = poll_fn(|context| socket.poll_write(context, [b"two", b""])).await;
        assert_eq!(written.expect("room"), 3);
        assert!(socket.is_new());
        let mut answer = [0; 3];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"two");
        let more = std::thread::spawn(move || client.write_all(b"more").map(|()| client));
        assert_eq!(read(&mut socket).await.expect("bytes"), b"more");
        assert!(!socket.is_new());
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
