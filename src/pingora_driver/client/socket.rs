//! A client's socket, and what has been read from it ahead of what was asked for.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

use crate::config::HalfClose;

/// What is collected before it is written: one segment, so that a small answer leaves in one packet.
const WRITE_BUFFER: usize = 1_460;

/// Bytes beyond the running request, or of its body, that are read to find the client's end behind them; more than that
/// stays with the kernel, and an end behind it is found later.
const MAX_READ_AHEAD: usize = 16 << 10;

/// Bytes of one such read.
const READ_CHUNK: usize = 2 << 10;

/// The socket of a connection. While a host is connected to, it is lent to the task that connects.
pub(crate) struct ClientSocket {
    pub(crate) stream: BufWriter<Stream>,
    /// What has come and has not been asked for.
    pub(crate) read_ahead: BytesMut,
    /// The client sends no more.
    ended: bool,
    /// Why reading ended.
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

    /// Waits until the client has left. What it sends meanwhile is kept for later.
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
            let ended = "the client has ended its side of the connection";
            return Poll::Ready(io::Error::new(ErrorKind::ConnectionAborted, ended));
        }
        Poll::Pending
    }

    /// Writes what is left to write, if that needs no waiting.
    pub(crate) fn flush_now(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.stream).poll_flush(&mut context);
    }
}
