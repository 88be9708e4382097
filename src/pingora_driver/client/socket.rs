//! A client's socket, and the bytes that were read from it ahead of time.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

use crate::config::HalfClose;

/// Size of the write buffer in bytes: one TCP segment, so a small response leaves in one packet.
const WRITE_BUFFER: usize = 1_460;

/// Maximum number of bytes read ahead of the running request to detect that the client has closed its side. If more is
/// unread in the kernel, the close is detected later.
const MAX_READ_AHEAD: usize = 16 << 10;

/// Bytes per such read.
const READ_CHUNK: usize = 2 << 10;

/// The socket of a connection. While the proxy connects to a host, the socket is lent to the connecting task.
pub(crate) struct ClientSocket {
    pub(crate) stream: BufWriter<Stream>,
    /// Bytes that were read but not yet requested.
    pub(crate) read_ahead: BytesMut,
    /// The client has closed its sending side.
    ended: bool,
    /// The error that ended reading.
    read_error: Option<ErrorKind>,
}

impl ClientSocket {
    pub(crate) fn new(stream: Stream) -> Self {
        ClientSocket {
            stream: BufWriter::with_capacity(WRITE_BUFFER, stream),
            read_ahead: BytesMut::new(),
            ended: false,
            read_error: None,
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }

    /// Resolves when the client disconnects. Bytes that arrive meanwhile are kept in `read_ahead`.
    pub(crate) fn poll_disconnect(
        &mut self,
        half_close: HalfClose,
        context: &mut Context<'_>,
    ) -> Poll<io::Error> {
        while !self.ended && self.read_error.is_none() && self.read_ahead.len() < MAX_READ_AHEAD {
            let mut space = [MaybeUninit::uninit(); READ_CHUNK];
            let mut more = ReadBuf::uninit(&mut space);
            match self.poll_read(context, &mut more) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => self.read_error = Some(error.kind()),
                Poll::Ready(Ok(())) => {
                    self.ended = more.filled().is_empty();
                    self.read_ahead.extend_from_slice(more.filled());
                }
            }
        }
        if let Some(kind) = self.read_error {
            return Poll::Ready(kind.into());
        }
        if self.ended && half_close == HalfClose::Abort {
            let ended = "the client has closed its side of the connection";
            return Poll::Ready(io::Error::new(ErrorKind::ConnectionAborted, ended));
        }
        Poll::Pending
    }

    /// Writes buffered data as far as possible without waiting.
    pub(crate) fn flush_now(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.stream).poll_flush(&mut context);
    }
}
