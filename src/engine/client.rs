//! The client's side of a connection.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use pingora::{Error, ErrorType};
use tokio::time::{Instant, timeout};

use super::buffer::{Buffer, SMALL};
use super::socket::Socket;
use super::watch::Round;
use crate::alarm::Alarm;
use crate::config::HalfClose;
use crate::proxy::answer::LINGER;

/// Bytes beyond the running request that are read to find the client's end behind them; more than that stays with the
/// kernel, and an end behind it is found later.
const LOOK_AHEAD: usize = 16 << 10;

/// A client's connection.
pub(super) struct Client {
    pub(super) socket: Socket,
    /// What has come and has not been used.
    pub(super) inbound: Buffer,
    /// The client sends no more.
    ended: bool,
    /// Why reading ended.
    broken: Option<ErrorKind>,
    pub(super) alarm: Alarm,
    /// For how long a client is not watched whose socket is new.
    unwatched: Round,
    /// When the write that waits must have made progress.
    write_by: Option<(Instant, Instant)>,
    /// How long writes have waited for the client to read.
    stalled: Duration,
    /// Whether anything has been sent since the head of the request.
    pub(super) has_sent: bool,
}

impl Client {
    pub(super) fn new(socket: Socket) -> Self {
        Client {
            socket,
            inbound: Buffer::default(),
            ended: false,
            broken: None,
            alarm: Alarm::default(),
            unwatched: Round::default(),
            write_by: None,
            stalled: Duration::ZERO,
            has_sent: false,
        }
    }

    /// How long writes have waited for the client to read.
    pub(super) fn stalled(&self) -> Duration {
        let running = self.write_by.map(|(since, _)| since.elapsed());
        self.stalled + running.unwrap_or_default()
    }

    /// Reads more; 0: the client sends no more.
    pub(super) fn poll_more(
        &mut self,
        context: &mut Context<'_>,
        size: usize,
    ) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        match ready!(self.socket.poll_read(context, &mut self.inbound, size)) {
            Ok(0) => self.ended = true,
            Err(error) => {
                self.broken = Some(error.kind());
                return Poll::Ready(Err(error));
            }
            Ok(count) => return Poll::Ready(Ok(count)),
        }
        Poll::Ready(Ok(0))
    }

    /// Waits until the client has left, whose request has come whole. What it sends meanwhile is kept for later.
    pub(super) fn poll_left(
        &mut self,
        context: &mut Context<'_>,
        half_close: HalfClose,
    ) -> Poll<Box<Error>> {
        if matches!(&self.socket, Socket::Tcp(socket) if socket.is_new())
            && !self.unwatched.is_over(context)
        {
            return Poll::Pending;
        }
        self.poll_gone(context, half_close)
    }

    fn poll_gone(&mut self, context: &mut Context<'_>, half_close: HalfClose) -> Poll<Box<Error>> {
        while !self.ended && self.broken.is_none() && self.inbound.len() < LOOK_AHEAD {
            if self.poll_more(context, SMALL).is_pending() {
                return Poll::Pending;
            }
        }
        match self.broken {
            Some(kind) => Poll::Ready(gone(kind.into())),
            None if self.ended && half_close == HalfClose::Abort => {
                let ended = "the client has ended its side of the connection";
                Poll::Ready(gone(io::Error::new(ErrorKind::ConnectionAborted, ended)))
            }
            None => Poll::Pending,
        }
    }

    /// Whether the client has sent more than was used, as far as that is known: a connection that is closed over it is reset.
    pub(super) fn has_more(&self) -> bool {
        let is_readable = match &self.socket {
            Socket::Tcp(socket) => !self.ended && socket.is_readable(),
            Socket::Tls(_) => false,
        };
        is_readable || !self.inbound.is_empty()
    }

    /// Whether the client has left by now, and how.
    pub(super) fn has_left(&mut self, half_close: HalfClose) -> Option<Box<Error>> {
        if let Socket::Tcp(socket) = &mut self.socket {
            socket.look_again();
        }
        let mut context = Context::from_waker(Waker::noop());
        match self.poll_gone(&mut context, half_close) {
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
        self.within(limit, context, written)
    }

    /// Sends what was written and kept back.
    pub(super) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        limit: Duration,
    ) -> Poll<pingora::Result<()>> {
        let flushed = self.socket.poll_flush(context);
        self.within(limit, context, flushed)
    }

    /// Says that nothing more comes.
    pub(super) fn poll_end(
        &mut self,
        context: &mut Context<'_>,
        limit: Duration,
    ) -> Poll<pingora::Result<()>> {
        ready!(self.poll_flush(context, limit))?;
        let ended = self.socket.poll_shutdown(context);
        self.within(limit, context, ended)
    }

    /// The outcome of a send to the client; while it is pending, the client must read something within `limit`.
    fn within<T>(
        &mut self,
        limit: Duration,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<pingora::Result<T>> {
        if let Poll::Ready(outcome) = outcome {
            if let (Ok(_), Some((since, _))) = (&outcome, self.write_by) {
                self.write_by = None;
                self.stalled += since.elapsed();
            }
            return Poll::Ready(outcome.map_err(unwritten));
        }
        let (_, by) = *self.write_by.get_or_insert_with(|| {
            let now = Instant::now();
            (now, now + limit)
        });
        if self.alarm.rings(by, context) {
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
    pub(super) async fn shut(&mut self) {
        if let Socket::Tls(_) = self.socket {
            let shutting = poll_fn(|context| self.socket.poll_shutdown(context));
            let _ = timeout(LINGER, shutting).await;
        }
    }

    /// Closes the connection so that the client can read all that was sent. What it still sends is read and thrown away
    /// for a while, since it would find the connection reset otherwise, perhaps before it has read all that was sent.
    pub(super) async fn part(mut self) {
        let parting = poll_fn(|context| {
            ready!(self.socket.poll_shutdown(context))?;
            loop {
                self.inbound.consume(self.inbound.len());
                if ready!(self.poll_more(context, SMALL))? == 0 {
                    return Poll::Ready(io::Result::Ok(()));
                }
            }
        });
        // A client that has gone does not need it, and one that stays gets no more time.
        let _ = timeout(LINGER, parting).await;
    }
}

/// The client has left.
pub(super) fn gone(error: io::Error) -> Box<Error> {
    Error::because(ErrorType::ConnectionClosed, "the client has left", error).into_down()
}

fn unwritten(error: io::Error) -> Box<Error> {
    Error::because(ErrorType::WriteError, "the answer", error).into_down()
}
