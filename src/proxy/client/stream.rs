//! A client's connection as Pingora sees it.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::listeners::ALPN;
use pingora::protocols::http::ServerSession;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::gate::{Cut, Gate, Peer, Phase};
use super::line::RequestLine;
use crate::proxy::Site;

/// What is collected before it is written: one segment, so that a small answer leaves in one packet.
const WRITE_BUFFER: usize = 1_460;

/// A client's connection, which keeps its deadlines and bounds:
///
/// - a request's head comes within `timeouts.client_head` of its first byte, the first one within that time of the
///   connection's beginning. Between two requests the client may rest, which Pingora limits;
/// - a head that is longer than `limits.head` is not read on, nor one whose request line is none, as far as it is known
///   where that begins: not where it came in one piece with the request before it;
/// - a write makes some progress within `timeouts.write`.
pub struct Client {
    /// `None` once it was left behind in the gate.
    stream: Option<BufWriter<Stream>>,
    gate: Arc<Gate>,
    site: Arc<ArcSwap<Site>>,
    /// HTTP/2: no request has the connection for itself, and only its beginning is waited for here.
    shared: bool,
    line: RequestLine,
    /// When the head must have come.
    head_by: Option<Instant>,
    /// When the write that waits must have made progress.
    write_by: Option<Instant>,
    read_alarm: Alarm,
    write_alarm: Alarm,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("gate", &self.gate).finish()
    }
}

impl Client {
    /// A connection that begins now; the timeouts are those of `site` at any time.
    pub fn new(stream: Stream, site: Arc<ArcSwap<Site>>) -> Self {
        let head_by = Instant::now() + site.load().timeouts.client_head;
        let shared = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let digest = stream.get_socket_digest();
        let address = digest.as_ref().and_then(|digest| digest.peer_addr());
        let peer = Peer {
            address: address
                .and_then(|address| address.as_inet())
                .map(SocketAddr::ip),
            tls: stream.get_ssl_digest().is_some(),
        };
        Client {
            stream: Some(BufWriter::with_capacity(WRITE_BUFFER, stream)),
            gate: Arc::new(Gate::new(Phase::Head, peer)),
            site,
            shared,
            line: RequestLine::START,
            head_by: Some(head_by),
            write_by: None,
            read_alarm: Alarm::default(),
            write_alarm: Alarm::default(),
        }
    }

    /// The connection that a session is on, unless it shares it with others.
    pub(in crate::proxy) fn of(session: &ServerSession) -> Option<&Client> {
        let stream = session.as_http1()?.stream();
        (**stream).as_any().downcast_ref()
    }

    pub(in crate::proxy) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The head of a request has been read; the whole request has `due` bytes, `u64::MAX` if nobody knows.
    pub(in crate::proxy) fn head_is_read(&self, due: u64) {
        self.gate.head_is_read(due);
    }

    /// Which request of the connection this is, from 1.
    pub(in crate::proxy) fn request_number(&self) -> u64 {
        self.gate.requests()
    }

    /// The host that has the whole request must answer within `time`; `None`: it has answered.
    pub(in crate::proxy) fn expect_answer(&self, time: Option<Duration>) {
        self.gate.expect_answer(time);
    }

    /// Whether the error that the proxy has just met is a host that has not answered in time.
    pub(in crate::proxy) fn take_host_late(&self) -> bool {
        self.gate.take_host_late()
    }

    /// How long reads of this connection have waited in all.
    pub(in crate::proxy) fn waited(&self) -> Duration {
        self.get_read_pending_time()
    }

    fn inner(&self) -> Option<&Stream> {
        self.stream.as_ref().map(BufWriter::get_ref)
    }

    /// What becomes of a read that has to wait.
    fn wait_to_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.gate.phase() {
            Phase::Rest => {}
            Phase::Begun | Phase::Head => {
                let head_by = *self
                    .head_by
                    .get_or_insert_with(|| Instant::now() + self.site.load().timeouts.client_head);
                let over = self.read_alarm.rings(head_by, context);
                if over && self.shared {
                    return Poll::Ready(Err(ErrorKind::TimedOut.into()));
                }
                if over {
                    self.gate.cut(match self.gate.read() {
                        0 => Cut::Silent,
                        _ => Cut::Late,
                    });
                }
            }
            Phase::Open => {
                // Pingora looks for a client that leaves while the host is at work, so this is where time passes.
                if let Some(answer_by) = self.gate.answer_by()
                    && self.read_alarm.rings(answer_by, context)
                {
                    self.gate.note_host_late();
                    let late = io::Error::new(ErrorKind::TimedOut, "the host has not answered");
                    return Poll::Ready(Err(late));
                }
            }
        }
        Poll::Pending
    }

    /// Passes the outcome of a write on, unless it has been waiting for too long.
    fn written<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.write_by = None;
            return outcome;
        }
        let write_by = *self
            .write_by
            .get_or_insert_with(|| Instant::now() + self.site.load().timeouts.write);
        if self.write_alarm.rings(write_by, context) {
            let stalled = io::Error::new(ErrorKind::TimedOut, "the client does not read");
            return Poll::Ready(Err(stalled));
        }
        Poll::Pending
    }

    fn write_with<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut BufWriter<Stream>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        };
        let outcome = write(Pin::new(stream), context);
        self.written(outcome, context)
    }
}

impl AsyncRead for Client {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let phase = this.gate.phase();
        if matches!(phase, Phase::Rest | Phase::Begun) {
            this.head_by = None;
            this.line = match phase {
                Phase::Rest if this.gate.is_counted() => RequestLine::START,
                _ => RequestLine::Past,
            };
        }
        if phase == Phase::Begun {
            this.gate.enter(Phase::Head);
        }
        let head = this.gate.read();
        if phase == Phase::Head && head >= this.site.load().limits.head as u64 {
            this.gate.cut(Cut::TooLong);
            return Poll::Pending;
        }
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        };
        let before = into.filled().len();
        let outcome = Pin::new(stream).poll_read(context, into);
        if outcome.is_pending() {
            return this.wait_to_read(context);
        }
        let new = &into.filled()[before..];
        let count = new.len();
        this.gate.note_read(new);
        if phase == Phase::Open {
            return outcome;
        }
        if !this.shared && !this.line.takes(new) {
            into.set_filled(before);
            this.gate.cut(Cut::BadLine);
            return Poll::Pending;
        }
        if count > 0 {
            this.gate.enter(match this.shared {
                true => Phase::Open,
                false => Phase::Head,
            });
        } else if head > 0 {
            // The end of the connection, or an error; Pingora would write to the log about each client that leaves so.
            this.gate.cut(Cut::Gone);
            return Poll::Pending;
        }
        outcome
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.gate.note_sent(bytes);
        this.write_with(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.gate.note_sent(parts.first().map_or(&[], |part| part));
        this.write_with(context, |stream, context| {
            stream.poll_write_vectored(context, parts)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream
            .as_ref()
            .is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut()
            .write_with(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut()
            .write_with(context, |stream, context| stream.poll_shutdown(context))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        if self.gate.why_cut() != Cut::None || thread::panicking() {
            self.gate.leave(stream);
        } else {
            // What was written before an error still goes out if it can.
            let mut context = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut stream).poll_flush(&mut context);
        }
    }
}

#[async_trait]
impl Shutdown for Client {
    async fn shutdown(&mut self) {
        // Through `poll_shutdown`, so that a client that does not read is not waited for without end.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Client {
    fn id(&self) -> UniqueIDType {
        self.inner().map_or(-1, |stream| stream.id())
    }
}

impl Ssl for Client {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner()?.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner()?.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner()?.selected_alpn_proto()
    }
}

impl GetTimingDigest for Client {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner()
            .map_or_else(Vec::new, |stream| stream.get_timing_digest())
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner()
            .map_or(Duration::ZERO, |stream| stream.get_read_pending_time())
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner()
            .map_or(Duration::ZERO, |stream| stream.get_write_pending_time())
    }
}

impl GetProxyDigest for Client {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner()?.get_proxy_digest()
    }
}

impl GetSocketDigest for Client {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner()?.get_socket_digest()
    }
}

// Pingora peeks for HTTP/2 without TLS only, which is off.
impl Peek for Client {}
