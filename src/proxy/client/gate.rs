//! What a connection's stream, the proxy and its guard tell each other.

use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pingora::protocols::Stream;
use tokio::io::BufWriter;
use tokio::time::Instant;

/// What the client is expected to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// To send a further request when it likes to.
    Rest,
    /// To go on with the head of a request, whose beginning came with the one before it.
    Begun,
    /// To send the head of a request.
    Head,
    /// Whatever comes after a head; or HTTP/2, where many requests share the connection.
    Open,
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
    /// The request line is none.
    BadLine,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// `None`: it has no IP address.
    pub(super) address: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub(super) tls: bool,
}

/// What a chunked body ends with that has no trailer.
const LAST_CHUNK: &[u8; 5] = b"0\r\n\r\n";

/// Where its status stands in an answer: behind `HTTP/1.1 `.
const STATUS: Range<usize> = 9..12;

/// The state of one connection. All of it is changed in the task that serves the connection, so the atomics order
/// nothing; they make it possible to change what others look at.
#[derive(Debug)]
pub(in crate::proxy) struct Gate {
    peer: Peer,
    phase: AtomicU8,
    cut: AtomicU8,
    /// Requests that were waited for so far.
    requests: AtomicU64,
    /// Bytes that have come since the head of the request began.
    read: AtomicU64,
    /// How many of them belong to the request; what came beyond is the next one's.
    due: AtomicU64,
    /// The last bytes that have come, the newest one lowest.
    tail: AtomicU64,
    /// Whether every byte since the beginning of the connection is known to belong to one request or another.
    counted: AtomicBool,
    /// Whether anything has been sent since the head of the request.
    sent: AtomicBool,
    /// The status of an answer to a head that the proxy was not given; 0: there was none.
    early: AtomicU16,
    begin: Instant,
    /// When the host must have answered, in microseconds from `begin`; 0: at no time.
    answer_by: AtomicU64,
    /// Whether it has not.
    host_late: AtomicBool,
    /// The stream, once the request that had it was given up.
    left: Mutex<Option<BufWriter<Stream>>>,
}

impl Gate {
    pub(super) fn new(phase: Phase, peer: Peer) -> Self {
        Gate {
            peer,
            phase: AtomicU8::new(phase as u8),
            cut: AtomicU8::new(Cut::None as u8),
            requests: AtomicU64::new(0),
            read: AtomicU64::new(0),
            due: AtomicU64::new(u64::MAX),
            tail: AtomicU64::new(0),
            counted: AtomicBool::new(true),
            sent: AtomicBool::new(false),
            early: AtomicU16::new(0),
            begin: Instant::now(),
            answer_by: AtomicU64::new(0),
            host_late: AtomicBool::new(false),
            left: Mutex::new(None),
        }
    }

    pub(super) fn peer(&self) -> Peer {
        self.peer
    }

    /// A request is waited for. The first one is so from the beginning of the connection.
    pub(super) fn await_request(&self) {
        if self.requests.fetch_add(1, Ordering::Relaxed) > 0 {
            let due = self.due.load(Ordering::Relaxed);
            if due == u64::MAX && !self.has_last_chunk() {
                self.counted.store(false, Ordering::Relaxed);
            }
            let ahead = self.read().saturating_sub(due);
            self.read.store(ahead, Ordering::Relaxed);
            self.enter(match ahead {
                0 => Phase::Rest,
                _ => Phase::Begun,
            });
        }
        self.due.store(u64::MAX, Ordering::Relaxed);
        self.sent.store(false, Ordering::Relaxed);
        self.early.store(0, Ordering::Relaxed);
        self.answer_by.store(0, Ordering::Relaxed);
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes that have come since the head of the request began.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(super) fn note_read(&self, bytes: &[u8]) {
        // Nobody else writes.
        self.read
            .store(self.read() + bytes.len() as u64, Ordering::Relaxed);
        let newest = &bytes[bytes.len().saturating_sub(LAST_CHUNK.len())..];
        let tail = self.tail.load(Ordering::Relaxed);
        let tail = newest
            .iter()
            .fold(tail, |tail, byte| tail << 8 | u64::from(*byte));
        self.tail.store(tail, Ordering::Relaxed);
    }

    /// Whether what came last ends a chunked body, so that nothing of a next request has come.
    fn has_last_chunk(&self) -> bool {
        let tail = self.tail.load(Ordering::Relaxed).to_be_bytes();
        tail.ends_with(LAST_CHUNK)
    }

    /// Whether the head of the request that is waited for begins with the next byte, if none of it has come.
    pub(super) fn is_counted(&self) -> bool {
        self.counted.load(Ordering::Relaxed)
    }

    /// The head has been read; the whole request has so many bytes, `u64::MAX` if nobody knows.
    pub(super) fn head_is_read(&self, due: u64) {
        if self.phase() == Phase::Rest {
            // It came with the request before it, and nobody has seen where it began.
            self.counted.store(false, Ordering::Relaxed);
        }
        self.due.store(due, Ordering::Relaxed);
        self.enter(Phase::Open);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Rest as u8 => Phase::Rest,
            phase if phase == Phase::Begun as u8 => Phase::Begun,
            phase if phase == Phase::Head as u8 => Phase::Head,
            _ => Phase::Open,
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
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
            cut if cut == Cut::BadLine as u8 => Cut::BadLine,
            _ => Cut::None,
        }
    }

    /// `bytes` go to the client, or are the first of those that do.
    pub(super) fn note_sent(&self, bytes: &[u8]) {
        if self.phase() != Phase::Open && !self.has_sent() {
            let status = bytes.get(STATUS).and_then(|code| str::from_utf8(code).ok());
            let status = status.and_then(|code| code.parse().ok()).unwrap_or(0);
            self.early.store(status, Ordering::Relaxed);
        }
        self.sent.store(true, Ordering::Relaxed);
    }

    /// The status of an answer to a head that the proxy was not given.
    pub(super) fn early_answer(&self) -> Option<u16> {
        let status = self.early.load(Ordering::Relaxed);
        (status > 0).then_some(status)
    }

    /// Whether anything has been sent since the head of the request.
    pub(in crate::proxy) fn has_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// The host must answer within `time`; `None`: it has.
    pub(super) fn expect_answer(&self, time: Option<Duration>) {
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

    pub(super) fn take_host_late(&self) -> bool {
        self.host_late.swap(false, Ordering::Relaxed)
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
