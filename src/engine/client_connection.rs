//! The client's side of a connection.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use pingora::{Error, ErrorType};
use tokio::time::{Instant, timeout};

use super::buffer::{Buffer, SMALL_SIZE};
use super::coarse_timer::CoarseDelay;
use super::transport::Transport;
use crate::config::HalfClose;
use crate::deadline_timer::DeadlineTimer;
use crate::proxy::local_response::LINGER;

/// Bytes beyond the running request that are read to find the client's end behind them; more than that stays with the
/// kernel, and an end behind it is found later.
const LOOK_AHEAD: usize = 16 << 10;

/// A client's connection.
pub(super) struct ClientConnection {
    pub(super) socket: Transport,
    /// What has come and has not been used.
    pub(super) inbound: Buffer,
    /// The client sends no more.
    read_closed: bool,
    /// Why reading ended.
    read_error: Option<ErrorKind>,
    pub(super) timer: DeadlineTimer,
    /// For how long a client is not watched whose socket is new.
    watch_delay: CoarseDelay,
    /// When the write that waits must have made progress.
    write_deadline: Option<(Instant, Instant)>,
    /// How long writes have waited for the client to read.
    write_stall: Duration,
    /// Whether anything has been sent since the head of the request.
    pub(super) has_sent: bool,
}

impl ClientConnection {
    pub(super) fn new(socket: Transport) -> Self {
        ClientConnection {
            socket,
            inbound: Buffer::default(),
            read_closed: false,
            read_error: None,
            timer: DeadlineTimer::default(),
            watch_delay: CoarseDelay::default(),
            write_deadline: None,
            write_stall: Duration::ZERO,
            has_sent: false,
        }
    }

    /// How long writes have waited for the client to read.
    pub(super) fn write_stall(&self) -> Duration {
        let running = self.write_deadline.map(|(since, _)| since.elapsed());
        self.write_stall + running.unwrap_or_default()
    }

    /// Reads more; 0: the client sends no more.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        size: usize,
    ) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.read_error {
            return Poll::Ready(Err(kind.into()));
        }
        if self.read_closed {
            return Poll::Ready(Ok(0));
        }
        match ready!(self.socket.poll_read(context, &mut self.inbound, size)) {
            Ok(0) => self.read_closed = true,
            Err(error) => {
                self.read_error = Some(error.kind());
                return Poll::Ready(Err(error));
            }
            Ok(count) => return Poll::Ready(Ok(count)),
        }
        Poll::Ready(Ok(0))
    }

    /// Waits until the client has left, whose request has come whole. What it sends meanwhile is kept for later.
    pub(super) fn poll_disconnect(
        &mut self,
        context: &mut Context<'_>,
        half_close: HalfClose,
    ) -> Poll<Box<Error>> {
        if matches!(&self.socket, Transport::Tcp(socket) if socket.is_unregistered())
            && !self.watch_delay.has_elapsed(context)
        {
            return Poll::Pending;
        }
        self.poll_closed(context, half_close)
    }

    fn poll_closed(
        &mut self,
        context: &mut Context<'_>,
        half_close: HalfClose,
    ) -> Poll<Box<Error>> {
        while !self.read_closed && self.read_error.is_none() && self.inbound.len() < LOOK_AHEAD {
            if self.poll_read(context, SMALL_SIZE).is_pending() {
                return Poll::Pending;
            }
        }
        match self.read_error {
            Some(kind) => Poll::Ready(disconnected(kind.into())),
            None if self.read_closed && half_close == HalfClose::Abort => {
                let ended = "the client has ended its side of the connection";
                Poll::Ready(disconnected(io::Error::new(
                    ErrorKind::ConnectionAborted,
                    ended,
                )))
            }
            None => Poll::Pending,
        }
    }

    /// Whether the client has sent more than was used, as far as that is known: a connection that is closed over it is reset.
    pub(super) fn has_unread(&self) -> bool {
        let is_readable = match &self.socket {
            Transport::Tcp(socket) => !self.read_closed && socket.is_readable(),
            Transport::Tls(_) => false,
        };
        is_readable || !self.inbound.is_empty()
    }

    /// Whether the client has left by now, and how.
    pub(super) fn check_disconnect(&mut self, half_close: HalfClose) -> Option<Box<Error>> {
        if let Transport::Tcp(socket) = &mut self.socket {
            socket.assume_readable();
        }
        let mut context = Context::from_waker(Waker::noop());
        match self.poll_closed(&mut context, half_close) {
            Poll::Ready(error) => Some(error),
            Poll::Pending => None,
        }
    }

    /// Writes some of `parts`; at least one byte comes within `limit`.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        parts: [&[u8]; 2],
        limit: Duration,
    ) -> Poll<pingora::Result<usize>> {
        let written = self.socket.poll_write(context, parts);
        self.has_sent |= matches!(written, Poll::Ready(Ok(_)));
        self.with_deadline(limit, context, written)
    }

    /// Sends what was written and kept back.
    pub(super) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        limit: Duration,
    ) -> Poll<pingora::Result<()>> {
        let flushed = self.socket.poll_flush(context);
        self.with_deadline(limit, context, flushed)
    }

    /// Says that nothing more comes.
    pub(super) fn poll_shutdown(
        &mut self,
        context: &mut Context<'_>,
        limit: Duration,
    ) -> Poll<pingora::Result<()>> {
        ready!(self.poll_flush(context, limit))?;
        let ended = self.socket.poll_shutdown(context);
        self.with_deadline(limit, context, ended)
    }

    /// The outcome of a send to the client; while it is pending, the client must read something within `limit`.
    fn with_deadline<T>(
        &mut self,
        limit: Duration,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<pingora::Result<T>> {
        if let Poll::Ready(outcome) = outcome {
            if let (Ok(_), Some((since, _))) = (&outcome, self.write_deadline) {
                self.write_deadline = None;
                self.write_stall += since.elapsed();
            }
            return Poll::Ready(outcome.map_err(write_error));
        }
        let (_, by) = *self.write_deadline.get_or_insert_with(|| {
            let now = Instant::now();
            (now, now + limit)
        });
        if self.timer.has_elapsed(by, context) {
            let stalled = "the client does not read";
            let error = Error::explain(ErrorType::WriteTimedout, stalled).into_down();
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    /// Writes all of `bytes` at once.
    pub(super) async fn write_all(
        &mut self,
        mut bytes: &[u8],
        limit: Duration,
    ) -> pingora::Result<()> {
        poll_fn(|context| {
            while !bytes.is_empty() {
                let count = ready!(self.poll_write(context, [bytes, &[]], limit))?;
                bytes = &bytes[count..];
            }
            self.poll_flush(context, limit)
        })
        .await
    }

    /// Says that nothing more comes, where the end of the connection does not say it.
    pub(super) async fn send_close_notify(&mut self) {
        if let Transport::Tls(_) = self.socket {
            let closing = poll_fn(|context| self.socket.poll_shutdown(context));
            let _ = timeout(LINGER, closing).await;
        }
    }

    /// Closes the connection so that the client can read all that was sent. What it still sends is read and thrown away
    /// for a while, since it would find the connection reset otherwise, perhaps before it has read all that was sent.
    pub(super) async fn lingering_close(mut self) {
        let closing = poll_fn(|context| {
            ready!(self.socket.poll_shutdown(context))?;
            loop {
                self.inbound.consume(self.inbound.len());
                if ready!(self.poll_read(context, SMALL_SIZE))? == 0 {
                    return Poll::Ready(io::Result::Ok(()));
                }
            }
        });
        // A client that has gone does not need it, and one that stays gets no more time.
        let _ = timeout(LINGER, closing).await;
    }
}

/// The client has left.
pub(super) fn disconnected(error: io::Error) -> Box<Error> {
    Error::because(ErrorType::ConnectionClosed, "the client has left", error).into_down()
}

fn write_error(error: io::Error) -> Box<Error> {
    Error::because(ErrorType::WriteError, "the answer", error).into_down()
}
