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
use crate::message::body::Body;

/// What the client is expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// To send a further request when it likes to.
    Rest,
    /// To send the head of a request.
    Head,
    /// Whatever comes after a head.
    Open,
}

/// What a read from a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Look {
    /// For what belongs to the running request.
    Request,
    /// To see the client leave: nothing is handed out, not even of a body that is to come.
    Ahead,
    /// To leave the socket in the gate.
    Lend,
}

/// Reads are for something special until this is dropped.
pub(super) struct Looking<'a>(&'a Gate);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.look.store(Look::Request as u8, Ordering::Relaxed);
    }
}

/// Why a request ends before it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cut {
    /// It does not.
    None,
    /// The client has gone amid a head.
    Gone,
    /// No head came in time, not even the beginning of one.
    Silent,
    /// The head was begun and not ended in time.
    Late,
    /// The head is longer than any may be.
    TooLong,
    /// The head is none.
    BadHead,
    /// HTTP/2: frames that bring no request forward, without end.
    Flood,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// `None`: it has no IP address.
    pub(super) address: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub(super) tls: bool,
}

/// The state of one connection, or of one stream of HTTP/2. All of it is changed in the task that serves the one or the
/// other, so the atomics order nothing; they make it possible to change what others look at.
pub(crate) struct Gate {
    peer: Peer,
    phase: AtomicU8,
    cut: AtomicU8,
    /// Requests that were waited for so far.
    requests: AtomicU64,
    /// What is to come of the request behind its head.
    body: Mutex<Body>,
    /// Whether anything has been sent since the head of the request.
    sent: AtomicBool,
    begin: Instant,
    /// When the head of the request began, in microseconds from `begin`. A connection's first one is waited for from 0 on.
    head_began: AtomicU64,
    /// When the host must have answered, in microseconds from `begin`; 0: at no time.
    answer_by: AtomicU64,
    /// Whether it has not.
    host_late: AtomicBool,
    /// How long the client has been waited for on a stream, in microseconds.
    waited: AtomicU64,
    /// Whether heads have come on a connection of HTTP/2 that nobody may have looked at.
    full: AtomicBool,
    /// The stream, once the request that had it was given up.
    left: Mutex<Option<BufWriter<Stream>>>,
    look: AtomicU8,
    /// The socket while a host is connected to, and what its end means.
    lent: Mutex<Option<(ClientSocket, HalfClose)>>,
}

impl Gate {
    pub(super) fn new(peer: Peer) -> Self {
        Gate {
            peer,
            phase: AtomicU8::new(Phase::Head as u8),
            cut: AtomicU8::new(Cut::None as u8),
            requests: AtomicU64::new(0),
            body: Mutex::new(Body::Length(0)),
            sent: AtomicBool::new(false),
            begin: Instant::now(),
            head_began: AtomicU64::new(0),
            answer_by: AtomicU64::new(0),
            host_late: AtomicBool::new(false),
            waited: AtomicU64::new(0),
            full: AtomicBool::new(false),
            left: Mutex::new(None),
            look: AtomicU8::new(Look::Request as u8),
            lent: Mutex::new(None),
        }
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// A request is waited for. The first one is so from the beginning of the connection. `false`: the one before it has
    /// not come to its end, so that nobody knows where another one begins.
    pub(super) fn await_request(&self) -> bool {
        if self.requests.fetch_add(1, Ordering::Relaxed) > 0 {
            self.enter(Phase::Rest);
        }
        self.sent.store(false, Ordering::Relaxed);
        self.answer_by.store(0, Ordering::Relaxed);
        self.body().is_over()
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The head has been read; `body` is to come.
    pub(super) fn head_is_read(&self, body: Body) {
        *self.body() = body;
        self.enter(Phase::Open);
    }

    pub(super) fn body(&self) -> MutexGuard<'_, Body> {
        // What has been begun to be read when somebody panics is not read on.
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Rest as u8 => Phase::Rest,
            phase if phase == Phase::Head as u8 => Phase::Head,
            _ => Phase::Open,
        }
    }

    /// When the head of the request began.
    pub(super) fn head_began(&self) -> std::time::Instant {
        let began = Duration::from_micros(self.head_began.load(Ordering::Relaxed));
        (self.begin + began).into_std()
    }

    pub(super) fn enter(&self, phase: Phase) {
        if phase == Phase::Head && self.phase() == Phase::Rest {
            let since = u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.head_began.store(since, Ordering::Relaxed);
        }
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Ends the request; the guard sees it as soon as the stream has told its caller to wait.
    pub(super) fn cut(&self, why: Cut) {
        self.cut.store(why as u8, Ordering::Relaxed);
    }

    pub(super) fn why_cut(&self) -> Cut {
        match self.cut.load(Ordering::Relaxed) {
            cut if cut == Cut::Gone as u8 => Cut::Gone,
            cut if cut == Cut::Silent as u8 => Cut::Silent,
            cut if cut == Cut::Late as u8 => Cut::Late,
            cut if cut == Cut::TooLong as u8 => Cut::TooLong,
            cut if cut == Cut::BadHead as u8 => Cut::BadHead,
            cut if cut == Cut::Flood as u8 => Cut::Flood,
            _ => Cut::None,
        }
    }

    pub(super) fn note_sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// Whether anything has been sent since the head of the request.
    pub(in crate::proxy) fn has_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// The host that has the whole request must answer within `time`; `None`: it has answered.
    pub(in crate::proxy) fn expect_answer(&self, time: Option<Duration>) {
        let by = time.map_or(0, |time| {
            let by = self.begin.elapsed().saturating_add(time).as_micros();
            u64::try_from(by).unwrap_or(u64::MAX)
        });
        self.answer_by.store(by, Ordering::Relaxed);
    }

    pub(super) fn answer_by(&self) -> Option<Instant> {
        let by = self.answer_by.load(Ordering::Relaxed);
        (by > 0).then(|| self.begin + Duration::from_micros(by))
    }

    /// The host has not answered in time.
    pub(super) fn note_host_late(&self) {
        self.expect_answer(None);
        self.host_late.store(true, Ordering::Relaxed);
    }

    /// Whether the error that the proxy has just met is a host that has not answered in time.
    pub(in crate::proxy) fn take_host_late(&self) -> bool {
        self.host_late.swap(false, Ordering::Relaxed)
    }

    /// The client has been waited for.
    pub(super) fn note_waited(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.waited.fetch_add(time, Ordering::Relaxed);
    }

    pub(super) fn waited(&self) -> Duration {
        Duration::from_micros(self.waited.load(Ordering::Relaxed))
    }

    /// Whether heads wait to be looked at, and no more of them should come before that.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Makes reads be for this until the returned value is dropped.
    pub(super) fn look(&self, look: Look) -> Looking<'_> {
        self.look.store(look as u8, Ordering::Relaxed);
        Looking(self)
    }

    /// What reads are for.
    pub(super) fn looks(&self) -> Look {
        match self.look.load(Ordering::Relaxed) {
            look if look == Look::Request as u8 => Look::Request,
            look if look == Look::Lend as u8 => Look::Lend,
            _ => Look::Ahead,
        }
    }

    pub(super) fn lend(&self, socket: Option<ClientSocket>, half_close: HalfClose) {
        *self.lent() = socket.map(|socket| (socket, half_close));
    }

    pub(super) fn take_lent(&self) -> Option<ClientSocket> {
        self.lent().take().map(|(socket, _)| socket)
    }

    /// Waits until the client leaves whose socket is here.
    pub(super) fn poll_lent(&self, context: &mut Context<'_>) -> Poll<io::Error> {
        match &mut *self.lent() {
            Some((socket, half_close)) => socket.poll_left(*half_close, context),
            None => Poll::Pending,
        }
    }

    fn lent(&self) -> MutexGuard<'_, Option<(ClientSocket, HalfClose)>> {
        // It is set and taken as a whole.
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn leave(&self, stream: BufWriter<Stream>) {
        *self.left() = Some(stream);
    }

    pub(super) fn take_left(&self) -> Option<BufWriter<Stream>> {
        self.left().take()
    }

    fn left(&self) -> MutexGuard<'_, Option<BufWriter<Stream>>> {
        // It is set and taken as a whole.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gate { peer, requests, .. } = self;
        f.debug_struct("Gate")
            .field("peer", peer)
            .field("requests", requests)
            .field("phase", &self.phase())
            .field("cut", &self.why_cut())
            .finish_non_exhaustive()
    }
}
