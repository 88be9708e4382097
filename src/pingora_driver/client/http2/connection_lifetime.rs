//! When an HTTP/2 connection closes: after a time without streams, after too many wasted streams, or because the
//! process or a limit ends it. Closing takes two steps, a GOAWAY frame and the end of the connection.

use std::time::Duration;

use tokio::time::Instant;

use super::connection::MAX_STREAMS;
use crate::proxy::local_response::LINGER;

/// How many streams the client may end before they have a response until the connection is closed. Each response earns
/// one more. A browser that leaves a page resets all its open streams at once.
pub(super) const MAX_WASTED_STREAMS: usize = MAX_STREAMS;

/// Whether the client has been sent GOAWAY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShutdownState {
    Running,
    /// GOAWAY was sent. Streams that the client opened before it received the frame are still served.
    Graceful(Instant),
    /// The client violated a limit. Streams opened later than this are not served.
    Abrupt(Instant),
}

/// The shutdown state of a connection and what leads to it.
#[derive(Debug)]
pub(super) struct ConnectionLifetime {
    shutdown_state: ShutdownState,
    /// When the last stream ended.
    idle_since: Instant,
    /// See [`MAX_WASTED_STREAMS`].
    wasted_streams_left: usize,
}

impl ConnectionLifetime {
    pub(super) fn new() -> Self {
        ConnectionLifetime {
            shutdown_state: ShutdownState::Running,
            idle_since: Instant::now(),
            wasted_streams_left: MAX_WASTED_STREAMS,
        }
    }

    pub(super) fn shutdown_state(&self) -> ShutdownState {
        self.shutdown_state
    }

    /// Counts a stream that has ended. `is_last`: the connection has no other stream.
    pub(super) fn note_stream_end(&mut self, answered: bool, is_last: bool) {
        if is_last {
            self.idle_since = Instant::now();
        }
        if answered {
            self.wasted_streams_left = MAX_WASTED_STREAMS.min(self.wasted_streams_left + 1);
        } else {
            self.note_wasted_stream();
        }
    }

    /// Counts a stream that ended without a response.
    pub(super) fn note_wasted_stream(&mut self) {
        self.wasted_streams_left = self.wasted_streams_left.saturating_sub(1);
        if self.wasted_streams_left == 0 {
            self.shut_down_abruptly();
        }
    }

    /// The connection counts as idle only from now on.
    pub(super) fn restart_idle_time(&mut self) {
        self.idle_since = Instant::now();
    }

    pub(super) fn shut_down_gracefully(&mut self) {
        if self.shutdown_state == ShutdownState::Running {
            let now = Instant::now();
            self.shutdown_state = ShutdownState::Graceful(now);
            self.idle_since = now;
        }
    }

    pub(super) fn shut_down_abruptly(&mut self) {
        if !self.is_shutting_down_abruptly() {
            self.shutdown_state = ShutdownState::Abrupt(Instant::now());
        }
    }

    pub(super) fn is_shutting_down_abruptly(&self) -> bool {
        matches!(self.shutdown_state, ShutdownState::Abrupt(_))
    }

    /// Whether GOAWAY was sent so long ago that the client must have received it, and should not open more streams.
    pub(super) fn has_client_seen_goaway(&self) -> bool {
        matches!(self.shutdown_state, ShutdownState::Graceful(since) if since.elapsed() > LINGER)
    }

    /// When an idle connection takes the next step of its shutdown. `keepalive` is its idle timeout.
    pub(super) fn idle_deadline(&self, keepalive: Duration) -> Instant {
        match self.shutdown_state {
            ShutdownState::Running => self.idle_since + keepalive,
            ShutdownState::Graceful(_) => self.idle_since + LINGER,
            ShutdownState::Abrupt(since) => since + LINGER,
        }
    }
}
