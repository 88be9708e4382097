//! The connection to a client: reads, writes, deadlines, and how it closes.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use pingora::{Error, ErrorType};
use tokio::time::{Instant, timeout};

use super::buffer::{Buffer, SMALL_SIZE};
use super::client_transport::ClientTransport;
use super::coarse_timer::CoarseDelay;
use super::transport::Transport;
use crate::config::HalfClose;
use crate::deadline_timer::DeadlineTimer;
use crate::message::RequestView;
use crate::message::body_decoder::BodyDecoder;
use crate::proxy::http_rules;
use crate::proxy::local_response::LINGER;

/// How many pipelined bytes after the current request are read while looking for the client's FIN. Further bytes stay
/// in the kernel, and a FIN after them is noticed later.
const LOOK_AHEAD: usize = 16 << 10;

/// A client's connection.
pub(super) struct ClientConnection {
    pub(super) transport: ClientTransport,
    /// Bytes received and not yet consumed.
    pub(super) inbound: Buffer,
    /// The client has shut down its sending side.
    read_closed: bool,
    /// The error that ended reading.
    read_error: Option<ErrorKind>,
    pub(super) timer: DeadlineTimer,
    /// Delays watching for a disconnect while the socket is not registered with the runtime.
    watch_delay: CoarseDelay,
    /// The pending write: when it began to wait, and when it must have made progress.
    write_deadline: Option<(Instant, Instant)>,
    /// How long writes have waited for the client to read, in total.
    write_stall: Duration,
    /// Whether any byte was sent since the request head was read.
    pub(super) has_sent: bool,
}

impl ClientConnection {
    pub(super) fn new(transport: ClientTransport) -> Self {
        ClientConnection {
            transport,
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

    /// How long writes have waited for the client to read, in total.
    pub(super) fn write_stall(&self) -> Duration {
        let pending = self.write_deadline.map(|(began, _)| began.elapsed());
        self.write_stall + pending.unwrap_or_default()
    }

    /// A decoder for the body of a request with this head.
    pub(super) fn body_decoder(&self, request: RequestView<'_>) -> BodyDecoder {
        match &self.transport {
            ClientTransport::Socket(_) => http_rules::request_body(request),
            ClientTransport::Http2(stream) => stream.body_decoder(request),
        }
    }

    /// Reads up to `size` bytes or more. 0 means that the client has finished sending.
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
        match ready!(self.transport.poll_read(context, &mut self.inbound, size)) {
            Ok(0) => self.read_closed = true,
            Err(error) => {
                self.read_error = Some(error.kind());
                return Poll::Ready(Err(error));
            }
            Ok(count) => return Poll::Ready(Ok(count)),
        }
        Poll::Ready(Ok(0))
    }

    /// Waits for the client to disconnect after it has sent its whole request. Bytes that it sends meanwhile stay in
    /// `inbound`.
    pub(super) fn poll_disconnect(
        &mut self,
        context: &mut Context<'_>,
        half_close: HalfClose,
    ) -> Poll<Box<Error>> {
        if matches!(&self.transport, ClientTransport::Socket(Transport::Tcp(socket)) if socket.is_unregistered())
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
        if self.read_error.is_none()
            && let ClientTransport::Http2(stream) = &mut self.transport
            && let Poll::Ready(error) = stream.poll_reset(context)
        {
            self.read_error = Some(error.kind());
        }
        match self.read_error {
            Some(kind) => Poll::Ready(disconnected(kind.into())),
            None if self.read_closed && half_close == HalfClose::Abort => {
                let ended = "the client has shut down its sending side";
                Poll::Ready(disconnected(io::Error::new(
                    ErrorKind::ConnectionAborted,
                    ended,
                )))
            }
            None => Poll::Pending,
        }
    }

    /// Whether the client is known to have sent unread bytes. Closing the connection then makes the kernel send a
    /// reset.
    pub(super) fn has_unread(&self) -> bool {
        let is_readable = match &self.transport {
            ClientTransport::Socket(Transport::Tcp(socket)) => {
                !self.read_closed && socket.is_readable()
            }
            _ => false,
        };
        is_readable || !self.inbound.is_empty()
    }

    /// Checks once, without waiting, whether the client has disconnected.
    pub(super) fn check_disconnect(&mut self, half_close: HalfClose) -> Option<Box<Error>> {
        if let ClientTransport::Socket(Transport::Tcp(socket)) = &mut self.transport {
            socket.assume_readable();
        }
        let mut context = Context::from_waker(Waker::noop());
        match self.poll_closed(&mut context, half_close) {
            Poll::Ready(error) => Some(error),
            Poll::Pending => None,
        }
    }

    /// Writes a prefix of the concatenated `parts`. Fails if the client accepts no byte within `limit`.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        parts: [&[u8]; 2],
        limit: Duration,
    ) -> Poll<pingora::Result<usize>> {
        let written = self.transport.poll_write(context, parts);
        self.has_sent |= matches!(written, Poll::Ready(Ok(_)));
        self.with_deadline(limit, context, written)
    }

    /// Sends bytes that TLS still buffers.
    pub(super) fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        limit: Duration,
    ) -> Poll<pingora::Result<()>> {
        let flushed = self.transport.poll_flush(context);
        self.with_deadline(limit, context, flushed)
    }

    /// Flushes, then shuts down the sending side.
    pub(super) fn poll_shutdown(
        &mut self,
        context: &mut Context<'_>,
        limit: Duration,
    ) -> Poll<pingora::Result<()>> {
        ready!(self.poll_flush(context, limit))?;
        let ended = self.transport.poll_shutdown(context);
        self.with_deadline(limit, context, ended)
    }

    /// Passes on the result of a send. While the send is pending, the client must read something within `limit`.
    fn with_deadline<T>(
        &mut self,
        limit: Duration,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<pingora::Result<T>> {
        if let Poll::Ready(outcome) = outcome {
            if let (Ok(_), Some((began, _))) = (&outcome, self.write_deadline) {
                self.write_deadline = None;
                self.write_stall += began.elapsed();
            }
            return Poll::Ready(outcome.map_err(write_error));
        }
        let (_, deadline) = *self.write_deadline.get_or_insert_with(|| {
            let now = Instant::now();
            (now, now + limit)
        });
        if self.timer.has_elapsed(deadline, context) {
            let stalled = "the client does not read";
            let error = Error::explain(ErrorType::WriteTimedout, stalled).into_down();
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    /// Writes all of `bytes` and flushes.
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

    /// Sends TLS close_notify. Plain TCP needs nothing: closing the socket tells the client.
    pub(super) async fn send_close_notify(&mut self) {
        if let ClientTransport::Socket(Transport::Tls(_)) = self.transport {
            let closing = poll_fn(|context| self.transport.poll_shutdown(context));
            let _ = timeout(LINGER, closing).await;
        }
    }

    /// Shuts down the sending side, then reads and discards what the client sends, for at most [`LINGER`]. Without this
    /// the kernel would answer unread bytes with a reset, and the client could lose the end of the response.
    pub(super) async fn lingering_close(mut self) {
        let closing = poll_fn(|context| {
            ready!(self.transport.poll_shutdown(context))?;
            loop {
                self.inbound.consume(self.inbound.len());
                if ready!(self.poll_read(context, SMALL_SIZE))? == 0 {
                    return Poll::Ready(io::Result::Ok(()));
                }
            }
        });
        // Errors do not matter here: the client has disconnected, or its time is up.
        let _ = timeout(LINGER, closing).await;
    }
}

/// The error for a client that has disconnected.
pub(super) fn disconnected(error: io::Error) -> Box<Error> {
    Error::because(
        ErrorType::ConnectionClosed,
        "the client has disconnected",
        error,
    )
    .into_down()
}

fn write_error(error: io::Error) -> Box<Error> {
    Error::because(ErrorType::WriteError, "the response", error).into_down()
}
