//! What a connection's stream, the proxy and its guard tell each other.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use pingora::protocols::Stream;
use tokio::io::BufWriter;
use tokio::time::Instant;

use super::socket::ClientSocket;
use crate::config::HalfClose;
use crate::message::body_decoder::BodyDecoder;

/// What the client is expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RequestPhase {
    /// To send a further request when it likes to.
    Idle,
    /// To send the head of a request.
    Head,
    /// Whatever comes after a head.
    AfterHead,
}

/// What a read from a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ReadMode {
    /// For what belongs to the running request.
    Request,
    /// To see the client leave: nothing is handed out, not even of a body that is to come.
    WatchForClose,
    /// To leave the socket in the state.
    LendSocket,
}

/// Reads are for something special until this is dropped.
pub(crate) struct ReadModeGuard<'a>(&'a ConnectionState);

impl Drop for ReadModeGuard<'_> {
    fn drop(&mut self) {
        self.0
            .read_mode
            .store(ReadMode::Request as u8, Ordering::Relaxed);
    }
}

/// Why a request ends before it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum AbortReason {
    /// It does not.
    None,
    /// The client has gone amid a head.
    ClientGone,
    /// No head came in time, not even the beginning of one.
    IdleTimeout,
    /// The head was begun and not ended in time.
    HeadTimeout,
    /// The head is longer than any may be.
    HeadTooLong,
    /// The head is none.
    MalformedHead,
    /// HTTP/2: frames that bring no request forward, without end.
    FrameFlood,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DownstreamPeer {
    /// `None`: it has no IP address.
    pub(crate) address: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub(crate) tls: bool,
}

/// The state of one connection, or of one stream of HTTP/2. All of it is changed in the task that serves the one or the
/// other, so the atomics order nothing; they make it possible to change what others look at.
pub(crate) struct ConnectionState {
    peer: DownstreamPeer,
    phase: AtomicU8,
    abort_reason: AtomicU8,
    /// Requests that were waited for so far.
    request_count: AtomicU64,
    /// What is to come of the request behind its head.
    body: Mutex<BodyDecoder>,
    /// Whether anything has been sent since the head of the request.
    response_started: AtomicBool,
    opened_at: Instant,
    /// When the head of the request began, in microseconds from `opened_at`. A connection's first one is waited for from 0 on.
    head_began: AtomicU64,
    /// When the host must have answered, in microseconds from `opened_at`; 0: at no time.
    response_deadline: AtomicU64,
    /// Whether it has not.
    host_timed_out: AtomicBool,
    /// How long the client has been waited for on a stream, in microseconds.
    client_wait: AtomicU64,
    /// Whether heads have come on a connection of HTTP/2 that nobody may have looked at.
    heads_pending: AtomicBool,
    /// The stream, once the request that had it was given up.
    abandoned: Mutex<Option<BufWriter<Stream>>>,
    read_mode: AtomicU8,
    /// The socket while a host is connected to, and what its end means.
    lent_socket: Mutex<Option<(ClientSocket, HalfClose)>>,
}

impl ConnectionState {
    pub(crate) fn new(peer: DownstreamPeer) -> Self {
        ConnectionState {
            peer,
            phase: AtomicU8::new(RequestPhase::Head as u8),
            abort_reason: AtomicU8::new(AbortReason::None as u8),
            request_count: AtomicU64::new(0),
            body: Mutex::new(BodyDecoder::Length(0)),
            response_started: AtomicBool::new(false),
            opened_at: Instant::now(),
            head_began: AtomicU64::new(0),
            response_deadline: AtomicU64::new(0),
            host_timed_out: AtomicBool::new(false),
            client_wait: AtomicU64::new(0),
            heads_pending: AtomicBool::new(false),
            abandoned: Mutex::new(None),
            read_mode: AtomicU8::new(ReadMode::Request as u8),
            lent_socket: Mutex::new(None),
        }
    }

    pub(crate) fn peer(&self) -> DownstreamPeer {
        self.peer
    }

    /// A request is waited for. The first one is so from the beginning of the connection. `false`: the one before it has
    /// not come to its end, so that nobody knows where another one begins.
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

    /// The head has been read; `body` is to come.
    pub(crate) fn note_head_read(&self, body: BodyDecoder) {
        *self.body() = body;
        self.enter_phase(RequestPhase::AfterHead);
    }

    pub(crate) fn body(&self) -> MutexGuard<'_, BodyDecoder> {
        // What has been begun to be read when somebody panics is not read on.
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn phase(&self) -> RequestPhase {
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == RequestPhase::Idle as u8 => RequestPhase::Idle,
            phase if phase == RequestPhase::Head as u8 => RequestPhase::Head,
            _ => RequestPhase::AfterHead,
        }
    }

    /// When the head of the request began.
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

    /// Ends the request; the guard sees it as soon as the stream has told its caller to wait.
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

    /// Whether anything has been sent since the head of the request.
    pub(crate) fn has_response_started(&self) -> bool {
        self.response_started.load(Ordering::Relaxed)
    }

    /// The host that has the whole request must answer within `time`; `None`: it has answered.
    pub(crate) fn set_response_deadline(&self, time: Option<Duration>) {
        let by = time.map_or(0, |time| {
            let by = self.opened_at.elapsed().saturating_add(time).as_micros();
            u64::try_from(by).unwrap_or(u64::MAX)
        });
        self.response_deadline.store(by, Ordering::Relaxed);
    }

    pub(crate) fn response_deadline(&self) -> Option<Instant> {
        let by = self.response_deadline.load(Ordering::Relaxed);
        (by > 0).then(|| self.opened_at + Duration::from_micros(by))
    }

    /// The host has not answered in time.
    pub(crate) fn note_host_timeout(&self) {
        self.set_response_deadline(None);
        self.host_timed_out.store(true, Ordering::Relaxed);
    }

    /// Whether the error that the proxy has just met is a host that has not answered in time.
    pub(crate) fn take_host_timeout(&self) -> bool {
        self.host_timed_out.swap(false, Ordering::Relaxed)
    }

    /// The client has been waited for.
    pub(crate) fn add_client_wait(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.client_wait.fetch_add(time, Ordering::Relaxed);
    }

    pub(crate) fn client_wait(&self) -> Duration {
        Duration::from_micros(self.client_wait.load(Ordering::Relaxed))
    }

    /// Whether heads wait to be looked at, and no more of them should come before that.
    pub(crate) fn has_pending_heads(&self) -> bool {
        self.heads_pending.load(Ordering::Relaxed)
    }

    pub(crate) fn set_pending_heads(&self, pending: bool) {
        self.heads_pending.store(pending, Ordering::Relaxed);
    }

    /// Makes reads be for this until the returned value is dropped.
    pub(crate) fn set_read_mode(&self, mode: ReadMode) -> ReadModeGuard<'_> {
        self.read_mode.store(mode as u8, Ordering::Relaxed);
        ReadModeGuard(self)
    }

    /// What reads are for.
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

    /// Waits until the client leaves whose socket is here.
    pub(crate) fn poll_lent_socket(&self, context: &mut Context<'_>) -> Poll<io::Error> {
        match &mut *self.lent_socket() {
            Some((socket, half_close)) => socket.poll_disconnect(*half_close, context),
            None => Poll::Pending,
        }
    }

    fn lent_socket(&self) -> MutexGuard<'_, Option<(ClientSocket, HalfClose)>> {
        // It is set and taken as a whole.
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
        // It is set and taken as a whole.
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
