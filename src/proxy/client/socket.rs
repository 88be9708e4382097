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
const LOOK_AHEAD: usize = 16 << 10;

/// Bytes of one such read.
const PIECE: usize = 2 << 10;

/// The socket of a connection. While a host is connected to, it is lent to the task that connects.
pub(super) struct ClientSocket {
    pub(super) stream: BufWriter<Stream>,
    /// What has come and has not been asked for.
    pub(super) ahead: BytesMut,
    /// The client sends no more.
    ended: bool,
    /// Why reading ended.
    broken: Option<ErrorKind>,
}

impl ClientSocket {
    pub(super) fn new(stream: Stream) -> Self {
        ClientSocket {
            stream: BufWriter::with_capacity(WRITE_BUFFER, stream),
            ahead: BytesMut::new(),
            ended: false,
            broken: None,
        }
    }

    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }

    /// Waits until the client has left. What it sends meanwhile is kept for later.
    pub(super) fn poll_left(
        &mut self,
        half_close: HalfClose,
        context: &mut Context<'_>,
    ) -> Poll<io::Error> {
        while !self.ended && self.broken.is_none() && self.ahead.len() < LOOK_AHEAD {
            let mut space = [MaybeUninit::uninit(); PIECE];
            let mut more = ReadBuf::uninit(&mut space);
            match self.poll_read(context, &mut more) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => self.broken = Some(error.kind()),
                Poll::Ready(Ok(())) => {
                    self.ended = more.filled().is_empty();
                    self.ahead.extend_from_slice(more.filled());
                }
            }
        }
        if let Some(kind) = self.broken {
            return Poll::Ready(kind.into());
        }
        if self.ended && half_close == HalfClose::Abort {
            let ended = "the client has ended its side of the connection";
            return Poll::Ready(io::Error::new(ErrorKind::ConnectionAborted, ended));
        }
        Poll::Pending
    }

    /// Writes what is left to write, if that needs no waiting.
    pub(super) fn flush_now(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let _ = Pin::new(&mut self.stream).poll_flush(&mut context);
    }
}
