//! A client's connection, as a stream for Pingora.

mod read;

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::listeners::ALPN;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{GetTimingDigest, Shutdown, Stream};
use tokio::io::{AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::time::Instant;

use super::connection_state::{AbortReason, ConnectionState, DownstreamPeer, RequestPhase};
use super::head_scanner::HeadScanner;
use super::http2::H2Frames;
use super::http2::PathRewriter;
use super::socket::ClientSocket;
use crate::deadline_timer::DeadlineTimer;
use crate::message::body_decoder::BodyDecoder;
use crate::proxy::ActiveConfig;
use crate::proxy_protocol::ProxiedConnection;

/// More than the buffers between this stream and the socket hold, in bytes: if as much is accepted, the client has read.
const MAX_BUFFERED: usize = 128 << 10;

/// A client's connection. It enforces deadlines and limits:
///
/// - the head of a request must be complete within `timeouts.client_head` of its first byte; for the first request the
///   time begins with the connection. Pingora limits the idle time between two requests;
/// - it stops reading a head that exceeds `limits.head` or has an invalid request line, and a chunked body with invalid
///   chunks;
/// - it returns no bytes after a request before Pingora asks for the next one;
/// - on HTTP/2 the preface and each head must be complete within the same time; the time between them is not limited
///   here;
/// - a write must make progress within `timeouts.write`, which on HTTP/1 may be the one of the request's route.
pub struct ClientStream {
    /// `None` while it is lent, and after it was left in the state.
    socket: Option<ClientSocket>,
    state: Arc<ConnectionState>,
    active: Arc<ArcSwap<ActiveConfig>>,
    /// On HTTP/2, requests share the connection.
    is_http2: bool,
    head: HeadScanner,
    /// Bytes of the current head read so far.
    head_bytes: u64,
    /// An escaped part of the head, returned before anything else.
    escaped: Vec<u8>,
    frames: H2Frames,
    /// Only for HTTP/2.
    path_rewriter: Option<Box<PathRewriter>>,
    /// Deadline of the current head.
    head_by: Option<Instant>,
    /// Deadline for progress of the waiting write.
    write_by: Option<Instant>,
    /// Bytes that were accepted since a write began to wait.
    accepted: usize,
    read_timer: DeadlineTimer,
    write_timer: DeadlineTimer,
}

impl std::fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientStream")
            .field("state", &self.state)
            .finish()
    }
}

impl ClientStream {
    /// Wraps a new connection. Timeouts always follow the current configuration in `active`. `destination` is the address that
    /// the client has connected to, as a load balancer in front names it. `None`: it is that of the connection.
    pub fn new(
        stream: Stream,
        active: Arc<ArcSwap<ActiveConfig>>,
        destination: Option<SocketAddr>,
    ) -> Self {
        let (head_by, limit) = {
            let active = active.load();
            let head_by = Instant::now() + active.timeouts.client_head;
            (head_by, active.limits.head)
        };
        let is_http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let digest = stream.get_socket_digest();
        let address = digest.as_ref().and_then(|digest| digest.peer_addr());
        let address = address.and_then(|address| address.as_inet()).copied();
        let proxied = ProxiedConnection::of_stream(&stream, address, destination);
        let peer = DownstreamPeer {
            address: address.map(|address| address.ip()),
            tls: stream.get_ssl_digest().is_some(),
            proxied: Arc::new(proxied),
        };
        ClientStream {
            socket: Some(ClientSocket::new(stream)),
            state: Arc::new(ConnectionState::new(peer)),
            active,
            is_http2,
            head: HeadScanner::START,
            head_bytes: 0,
            escaped: Vec::new(),
            frames: H2Frames::new(),
            path_rewriter: is_http2.then(|| Box::new(PathRewriter::new(limit))),
            head_by: Some(head_by),
            write_by: None,
            accepted: 0,
            read_timer: DeadlineTimer::default(),
            write_timer: DeadlineTimer::default(),
        }
    }

    /// The time for the first head has begun at `since` already.
    pub fn await_head_since(&mut self, since: Instant) {
        self.head_by = Some(since + self.active.load().timeouts.client_head);
    }

    /// The connection of a session, unless several requests share it.
    pub(crate) fn of(session: &ServerSession) -> Option<&ClientStream> {
        let stream = session.as_http1()?.stream();
        (**stream).as_any().downcast_ref()
    }

    pub(crate) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.is_http2
    }

    /// The head of a request has been read, and `body` follows. An upgrade calls this again with a new body.
    pub(crate) fn note_head_read(&self, body: BodyDecoder) {
        self.state.note_head_read(body);
    }

    /// The number of the current request on this connection, from 1.
    pub(crate) fn request_number(&self) -> u64 {
        self.state.request_count()
    }

    /// Total time that reads of this connection have waited.
    pub(crate) fn client_wait(&self) -> Duration {
        self.get_read_pending_time()
    }

    pub(crate) fn inner(&self) -> Option<&Stream> {
        let socket = self.socket.as_ref()?;
        Some(socket.stream.get_ref())
    }

    /// The socket, taken back if it was lent.
    #[inline(always)]
    fn socket(&mut self) -> Option<&mut ClientSocket> {
        if self.socket.is_none() {
            self.socket = self.state.take_lent_socket();
        }
        self.socket.as_mut()
    }

    /// Returns the outcome of a write, or an error if the client has read nothing for too long. `size` is how much the
    /// outcome proves to have been accepted.
    fn written<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        size: impl Fn(&T) -> usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(written) = &outcome {
            let size = written.as_ref().map_or(usize::MAX, size);
            self.accepted = self.accepted.saturating_add(size);
            // While the client does not read, TLS still takes what its buffer has room for.
            if self.accepted > MAX_BUFFERED {
                self.write_by = None;
            }
            return outcome;
        }
        // Nothing reads while a write waits, so a disconnect is detected here.
        if !self.is_http2
            && self.state.phase() == RequestPhase::AfterHead
            && self.state.body().is_finished()
        {
            let half_close = self.active.load().half_close;
            let socket = self.socket.as_mut();
            if let Some(Poll::Ready(error)) =
                socket.map(|socket| socket.poll_disconnect(half_close, context))
            {
                return Poll::Ready(Err(error));
            }
        }
        if self.write_by.is_none() {
            self.accepted = 0;
        }
        let write_by = *self.write_by.get_or_insert_with(|| {
            let limit = self.state.write_timeout();
            Instant::now() + limit.unwrap_or_else(|| self.active.load().timeouts.write)
        });
        if self.write_timer.has_elapsed(write_by, context) {
            let stalled = io::Error::new(ErrorKind::TimedOut, "the client does not read");
            return Poll::Ready(Err(stalled));
        }
        Poll::Pending
    }

    /// Before the proxy has a head, only Pingora writes, to reject the head. The panic guard sends our own response
    /// instead.
    fn may_write(&self) -> Poll<()> {
        if !self.is_http2 && self.state.phase() != RequestPhase::AfterHead {
            self.state.abort(AbortReason::MalformedHead);
            return Poll::Pending;
        }
        self.state.note_response_started();
        Poll::Ready(())
    }

    /// Counts bytes written on HTTP/2.
    fn count(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = outcome
            && self.is_http2
        {
            self.frames.note_written(count);
        }
        outcome
    }

    fn write_with<T>(
        &mut self,
        context: &mut Context<'_>,
        size: impl Fn(&T) -> usize,
        write: impl FnOnce(Pin<&mut BufWriter<Stream>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(socket) = self.socket() else {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        };
        let outcome = write(Pin::new(&mut socket.stream), context);
        self.written(outcome, size, context)
    }
}

/// The size of what a flush has written: all that was accepted before it.
fn everything(_: &()) -> usize {
    usize::MAX
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.may_write());
        let size = |count: &usize| *count;
        let outcome = this.write_with(context, size, |stream, context| {
            stream.poll_write(context, bytes)
        });
        this.count(outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.may_write());
        let size = |count: &usize| *count;
        let outcome = this.write_with(context, size, |stream, context| {
            stream.poll_write_vectored(context, parts)
        });
        this.count(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket
            .as_ref()
            .is_some_and(|socket| socket.stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut()
            .write_with(context, everything, |stream, context| {
                stream.poll_flush(context)
            })
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut()
            .write_with(context, everything, |stream, context| {
                stream.poll_shutdown(context)
            })
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        let Some(mut socket) = self.socket.take().or_else(|| self.state.take_lent_socket()) else {
            return;
        };
        // Data written before an error is still sent if possible.
        if self.state.abort_reason() == AbortReason::None && !thread::panicking() {
            socket.flush_now();
        }
        self.state.abandon(socket.stream);
    }
}

#[async_trait]
impl Shutdown for ClientStream {
    async fn shutdown(&mut self) {
        // `poll_shutdown` has the write deadline, so a client that does not read cannot delay this forever.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}
