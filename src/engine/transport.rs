//! A connection's transport: plain TCP or TLS.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::Buffer;
use super::lazy_tcp::LazyTcp;

/// A transport. Plain TCP, the common kind, is not boxed.
pub enum Transport {
    /// Plain TCP, or a Unix socket.
    Tcp(LazyTcp),
    /// A TLS stream from Pingora, or any other stream of a listener.
    Tls(Stream),
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp(_) => "Tcp",
            Transport::Tls(_) => "Tls",
        })
    }
}

impl Transport {
    /// Reads into `buffer`, which gets space for at least `size` bytes if it is empty. 0 means that the peer has shut
    /// down its sending side.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Buffer,
        size: usize,
    ) -> Poll<io::Result<usize>> {
        if let Transport::Tcp(socket) = self {
            match socket.poll_read_ready(context) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    // A waiting connection holds no buffer.
                    buffer.release_if_empty();
                    return Poll::Pending;
                }
            }
        }
        let mut read_buf = ReadBuf::new(buffer.reserve(size));
        let outcome = match self {
            Transport::Tcp(socket) => socket.poll_read(context, &mut read_buf),
            Transport::Tls(socket) => Pin::new(socket).poll_read(context, &mut read_buf),
        };
        let count = read_buf.filled().len();
        match outcome {
            Poll::Ready(Ok(())) => {
                buffer.advance(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                buffer.release_if_empty();
                Poll::Pending
            }
        }
    }

    /// Writes a prefix of the concatenated `parts`, which must not both be empty.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        parts: [&[u8]; 2],
    ) -> Poll<io::Result<usize>> {
        let outcome = match self {
            Transport::Tcp(socket) => socket.poll_write(context, parts),
            Transport::Tls(socket) => match parts {
                [part, []] | [[], part] => Pin::new(socket).poll_write(context, part),
                parts => {
                    let parts = parts.map(IoSlice::new);
                    Pin::new(socket).poll_write_vectored(context, &parts)
                }
            },
        };
        match ready!(outcome) {
            Ok(0) => Poll::Ready(Err(ErrorKind::WriteZero.into())),
            outcome => Poll::Ready(outcome),
        }
    }

    /// Sends bytes that TLS still buffers.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(_) => Poll::Ready(Ok(())),
            Transport::Tls(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    /// Shuts down the sending side.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Tcp(socket) => socket.poll_shutdown(context),
            Transport::Tls(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}
