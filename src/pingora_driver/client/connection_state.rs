//! State shared by a connection's stream, the phases of its request, and the panic guard.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pingora::protocols::Stream;
use tokio::io::BufWriter;
use tokio::time::Instant;

use super::socket::ClientSocket;
use super::tunnel_state::TunnelState;
use crate::config::HalfClose;
use crate::message::body_decoder::BodyDecoder;
use crate::proxy_protocol::ProxiedConnection;

/// What the client is expected to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RequestPhase {
    /// Send a further request, at any time.
    Idle,
    /// Send the head of a request.
    Head,
    /// Anything after the head: send the body, or wait for the response.
    AfterHead,
}

/// What the reads of a connection are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReadMode {
    /// They return bytes of the running request.
    Request,
    /// They only detect a disconnect and return no bytes, even if the body is not complete.
    WatchForClose,
    /// They move the socket into the state, so that the connecting task can watch it.
    LendSocket,
}

/// Restores the default read mode when dropped.
pub(crate) struct ReadModeGuard<'a>(&'a ConnectionState);

impl Drop for ReadModeGuard<'_> {
    fn drop(&mut self) {
        self.0
            .read_mode
            .store(ReadMode::Request as u8, Ordering::Relaxed);
    }
}

/// Why a request is aborted before the proxy has a context for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum AbortReason {
    /// It is not aborted.
    None,
    /// The client disconnected in mid-head.
    ClientGone,
    /// No byte of a head arrived in time.
    IdleTimeout,
    /// The head was not complete in time.
    HeadTimeout,
    /// The head exceeds the size limit.
    HeadTooLong,
    /// The head is not valid HTTP.
    MalformedHead,
    /// HTTP/2: too many frames that carry no request or body.
    FrameFlood,
}

/// The peer of a client's connection.
#[derive(Debug, Clone)]
pub(crate) struct DownstreamPeer {
    /// `None`: the peer has no IP address.
    pub(crate) address: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub(crate) tls: bool,
    /// The connection as hosts of pools with `proxy_protocol` learn of it. The streams of a connection share it.
    pub(crate) proxied: Arc<ProxiedConnection>,
}

/// The state of one connection, or of one HTTP/2 stream. Only the task that serves it changes it, so the atomics need
/// no ordering; they provide interior mutability.
pub(crate) struct ConnectionState {
    peer: DownstreamPeer,
    phase: AtomicU8,
    abort_reason: AtomicU8,
    /// Number of requests that were begun or awaited, including the current one.
    request_count: AtomicU64,
    /// The body that follows the head of the current request.
    body: Mutex<BodyDecoder>,
    /// Whether any response bytes have been sent since the request's head.
    response_started: Arc<AtomicBool>,
    opened_at: Instant,
    /// When the head began, in microseconds since `opened_at`. The first head of a connection counts from 0.
    head_began: AtomicU64,
    /// Deadline for the host's response head, in microseconds since `opened_at`. 0: no deadline.
    response_deadline: AtomicU64,
    /// Deadline of the whole call, in microseconds since `opened_at`. 0: no deadline.
    call_deadline: AtomicU64,
    /// How long a write to the client may stall in the current request, in microseconds. 0: not known yet.
    write_timeout: AtomicU64,
    /// Whether that deadline has expired.
    host_timed_out: AtomicBool,
    /// How long an HTTP/2 stream has waited for its client, in microseconds.
    client_wait: AtomicU64,
    /// HTTP/2: the tunnel on the stream, if there is one.
    tunnel: TunnelState,
    /// HTTP/2: whether heads have been read that the `h2` crate may not have processed yet.
    heads_pending: AtomicBool,
    /// The stream, after the session that owned it was dropped.
    abandoned: Mutex<Option<BufWriter<Stream>>>,
    read_mode: AtomicU8,
    /// The socket while the proxy connects to a host, and how a half-closed client is treated meanwhile.
    lent_socket: Mutex<Option<(ClientSocket, HalfClose)>>,
}

impl DownstreamPeer {
    /// The client's address, and whether the connection is encrypted, as a request record has them.
    pub(crate) fn address_and_tls(&self) -> (Option<IpAddr>, bool) {
        (self.address, self.tls)
    }
}

impl ConnectionState {
    pub(crate) fn new(peer: DownstreamPeer) -> Self {
        ConnectionState {
            peer,
            phase: AtomicU8::new(RequestPhase::Head as u8),
            abort_reason: AtomicU8::new(AbortReason::None as u8),
            request_count: AtomicU64::new(0),
            body: Mutex::new(BodyDecoder::Length(0)),
            response_started: Arc::default(),
            opened_at: Instant::now(),
            head_began: AtomicU64::new(0),
            response_deadline: AtomicU64::new(0),
            call_deadline: AtomicU64::new(0),
            write_timeout: AtomicU64::new(0),
            host_timed_out: AtomicBool::new(false),
            client_wait: AtomicU64::new(0),
            tunnel: TunnelState::default(),
            heads_pending: AtomicBool::new(false),
            abandoned: Mutex::new(None),
            read_mode: AtomicU8::new(ReadMode::Request as u8),
            lent_socket: Mutex::new(None),
        }
    }

    pub(crate) fn peer(&self) -> &DownstreamPeer {
        &self.peer
    }

    /// Prepares for the next request; for the first one this happens when the connection opens. `false`: the body of
    /// the previous request is not complete, so the start of another one could not be found.
    pub(crate) fn begin_request(&self) -> bool {
        if self.request_count.fetch_add(1, Ordering::Relaxed) > 0 {
            self.enter_phase(RequestPhase::Idle);
        }
        self.response_started.store(false, Ordering::Relaxed);
        self.response_deadline.store(0, Ordering::Relaxed);
        self.body().is_finished()
    }

    pub(crate) fn request_count(&self) -> u64 {
        self.request_count.load(Ordering::Relaxed)
    }

    /// The head has been read, and `body` follows.
    pub(crate) fn note_head_read(&self, body: BodyDecoder) {
        *self.body() = body;
        self.enter_phase(RequestPhase::AfterHead);
    }

    pub(crate) fn body(&self) -> MutexGuard<'_, BodyDecoder> {
        // After a panic the body is not read any further, so a poisoned lock is harmless.
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> RequestPhase {
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == RequestPhase::Idle as u8 => RequestPhase::Idle,
            phase if phase == RequestPhase::Head as u8 => RequestPhase::Head,
            _ => RequestPhase::AfterHead,
        }
    }

    /// When the head of the current request began.
    pub(crate) fn head_began(&self) -> std::time::Instant {
        let began = Duration::from_micros(self.head_began.load(Ordering::Relaxed));
        (self.opened_at + began).into_std()
    }

    pub(crate) fn enter_phase(&self, phase: RequestPhase) {
        if phase == RequestPhase::Head && self.phase() == RequestPhase::Idle {
            let since = u64::try_from(self.opened_at.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.head_began.store(since, Ordering::Relaxed);
        }
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Aborts the request. The panic guard notices as soon as the stream has returned `Pending` to its caller.
    pub(crate) fn abort(&self, reason: AbortReason) {
        self.abort_reason.store(reason as u8, Ordering::Relaxed);
    }

    pub(crate) fn abort_reason(&self) -> AbortReason {
        match self.abort_reason.load(Ordering::Relaxed) {
            reason if reason == AbortReason::ClientGone as u8 => AbortReason::ClientGone,
            reason if reason == AbortReason::IdleTimeout as u8 => AbortReason::IdleTimeout,
            reason if reason == AbortReason::HeadTimeout as u8 => AbortReason::HeadTimeout,
            reason if reason == AbortReason::HeadTooLong as u8 => AbortReason::HeadTooLong,
            reason if reason == AbortReason::MalformedHead as u8 => AbortReason::MalformedHead,
            reason if reason == AbortReason::FrameFlood as u8 => AbortReason::FrameFlood,
            _ => AbortReason::None,
        }
    }

    pub(crate) fn note_response_started(&self) {
        self.response_started.store(true, Ordering::Relaxed);
    }

    /// The flag behind [`Self::has_response_started`], for the request's context.
    pub(crate) fn response_started(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.response_started)
    }

    /// Whether any response bytes have been sent since the request's head.
    pub(crate) fn has_response_started(&self) -> bool {
        self.response_started.load(Ordering::Relaxed)
    }

    /// Starts the deadline for the host's response head, which is due within `time`. `None`: the host has responded.
    pub(crate) fn set_response_deadline(&self, time: Option<Duration>) {
        let deadline = time.map_or(0, |time| {
            let deadline = self.opened_at.elapsed().saturating_add(time).as_micros();
            u64::try_from(deadline).unwrap_or(u64::MAX)
        });
        self.response_deadline.store(deadline, Ordering::Relaxed);
    }

    /// Sets the deadline of a whole call, which is over in `time`.
    pub(crate) fn set_call_deadline(&self, time: Duration) {
        let deadline = self.opened_at.elapsed().saturating_add(time).as_micros();
        let deadline = u64::try_from(deadline).unwrap_or(u64::MAX);
        self.call_deadline.store(deadline.max(1), Ordering::Relaxed);
    }

    /// When the whole call must be over.
    pub(crate) fn call_deadline(&self) -> Option<Instant> {
        let deadline = self.call_deadline.load(Ordering::Relaxed);
        (deadline > 0).then(|| self.opened_at + Duration::from_micros(deadline))
    }

    /// Moves the deadline for the host's response, if there is one.
    pub(crate) fn extend_response_deadline(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let deadline = self.response_deadline.load(Ordering::Relaxed);
        if deadline > 0 {
            let deadline = deadline.saturating_add(time);
            self.response_deadline.store(deadline, Ordering::Relaxed);
        }
    }

    /// Sets how long a write to the client may stall in the current request.
    pub(crate) fn set_write_timeout(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        self.write_timeout.store(limit, Ordering::Relaxed);
    }

    /// How long a write to the client may stall in the current request. `None`: not known yet, or HTTP/2, where requests
    /// share the connection.
    pub(crate) fn write_timeout(&self) -> Option<Duration> {
        let limit = self.write_timeout.load(Ordering::Relaxed);
        (limit > 0).then(|| Duration::from_micros(limit))
    }

    pub(crate) fn response_deadline(&self) -> Option<Instant> {
        let deadline = self.response_deadline.load(Ordering::Relaxed);
        (deadline > 0).then(|| self.opened_at + Duration::from_micros(deadline))
    }

    /// Records that the host's response deadline has expired.
    pub(crate) fn note_host_timeout(&self) {
        self.set_response_deadline(None);
        self.host_timed_out.store(true, Ordering::Relaxed);
    }

    /// Whether the current error is an expired response deadline of the host. Resets the flag.
    pub(crate) fn take_host_timeout(&self) -> bool {
        self.host_timed_out.swap(false, Ordering::Relaxed)
    }

    /// Adds to the time spent waiting for the client.
    pub(crate) fn add_client_wait(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.client_wait.fetch_add(time, Ordering::Relaxed);
    }

    pub(crate) fn client_wait(&self) -> Duration {
        Duration::from_micros(self.client_wait.load(Ordering::Relaxed))
    }

    pub(crate) fn tunnel(&self) -> &TunnelState {
        &self.tunnel
    }

    /// Whether reads must wait until the `h2` crate has processed the heads read before.
    pub(crate) fn has_pending_heads(&self) -> bool {
        self.heads_pending.load(Ordering::Relaxed)
    }

    pub(crate) fn set_pending_heads(&self, pending: bool) {
        self.heads_pending.store(pending, Ordering::Relaxed);
    }

    /// Sets the purpose of reads until the returned guard is dropped.
    pub(crate) fn set_read_mode(&self, mode: ReadMode) -> ReadModeGuard<'_> {
        self.read_mode.store(mode as u8, Ordering::Relaxed);
        ReadModeGuard(self)
    }

    pub(crate) fn read_mode(&self) -> ReadMode {
        match self.read_mode.load(Ordering::Relaxed) {
            mode if mode == ReadMode::Request as u8 => ReadMode::Request,
            mode if mode == ReadMode::LendSocket as u8 => ReadMode::LendSocket,
            _ => ReadMode::WatchForClose,
        }
    }

    pub(crate) fn lend_socket(&self, socket: Option<ClientSocket>, half_close: HalfClose) {
        *self.lent_socket() = socket.map(|socket| (socket, half_close));
    }

    pub(crate) fn take_lent_socket(&self) -> Option<ClientSocket> {
        self.lent_socket().take().map(|(socket, _)| socket)
    }

    /// Resolves when the client whose socket is lent disconnects.
    pub(crate) fn poll_lent_socket(&self, context: &mut Context<'_>) -> Poll<io::Error> {
        match &mut *self.lent_socket() {
            Some((socket, half_close)) => socket.poll_disconnect(*half_close, context),
            None => Poll::Pending,
        }
    }

    fn lent_socket(&self) -> MutexGuard<'_, Option<(ClientSocket, HalfClose)>> {
        // The value is always set and taken as a whole, so a poisoned lock is harmless.
        self.lent_socket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn abandon(&self, stream: BufWriter<Stream>) {
        *self.abandoned() = Some(stream);
    }

    pub(crate) fn take_abandoned(&self) -> Option<BufWriter<Stream>> {
        self.abandoned().take()
    }

    fn abandoned(&self) -> MutexGuard<'_, Option<BufWriter<Stream>>> {
        // The value is always set and taken as a whole, so a poisoned lock is harmless.
        self.abandoned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConnectionState {
            peer,
            request_count,
            ..
        } = self;
        f.debug_struct("ConnectionState")
            .field("peer", peer)
            .field("request_count", request_count)
            .field("phase", &self.phase())
            .field("abort_reason", &self.abort_reason())
            .finish_non_exhaustive()
    }
}
