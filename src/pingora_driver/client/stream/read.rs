//! Reading from a client: one request at a time, each with its own deadline.

use std::io::{self, ErrorKind};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::ClientStream;
use crate::message::Malformed;
use crate::pingora_driver::client::connection_state::{AbortReason, ReadMode, RequestPhase};
use crate::pingora_driver::client::head_scanner::HeadScanner;
use crate::pingora_driver::client::http2::ReadOutcome;

impl ClientStream {
    /// Checks the deadlines of a read that has to wait.
    fn wait_to_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.state.phase() {
            RequestPhase::Idle => {}
            RequestPhase::Head => {
                let head_by = *self.head_by.get_or_insert_with(|| {
                    Instant::now() + self.active.load().timeouts.client_head
                });
                if self.read_timer.has_elapsed(head_by, context) {
                    self.state.abort(match self.head_bytes {
                        0 => AbortReason::IdleTimeout,
                        _ => AbortReason::HeadTimeout,
                    });
                }
            }
            RequestPhase::AfterHead => {
                // While the host is working, Pingora reads from the client to detect a disconnect, so the host's
                // deadline is checked here.
                if let Some(response_deadline) = self.state.response_deadline()
                    && self.read_timer.has_elapsed(response_deadline, context)
                {
                    self.state.note_host_timeout();
                    let late = io::Error::new(ErrorKind::TimedOut, "the host has not responded");
                    return Poll::Ready(Err(late));
                }
            }
        }
        Poll::Pending
    }

    fn poll_stream(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.socket() {
            Some(socket) => socket.poll_read(context, into),
            None => Poll::Ready(Err(ErrorKind::NotConnected.into())),
        }
    }

    /// Returns the bytes that belong to the running request, as many as `own_length` says, and holds back the rest.
    fn read_request_bytes(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
        own_length: impl FnOnce(&mut Self, &[u8]) -> Result<usize, Malformed>,
    ) -> Poll<io::Result<Result<usize, Malformed>>> {
        if let Some(socket) = self.socket()
            && !socket.read_ahead.is_empty()
        {
            let ahead = mem::take(&mut socket.read_ahead);
            let fitting = &ahead[..ahead.len().min(into.remaining())];
            let length = own_length(self, fitting);
            let count = length.unwrap_or_default();
            into.put_slice(&ahead[..count]);
            if let Some(socket) = &mut self.socket
                && count < ahead.len()
            {
                socket.read_ahead = ahead;
                socket.read_ahead.advance(count);
            }
            return Poll::Ready(Ok(length));
        }
        let before = into.filled().len();
        ready!(self.poll_stream(context, into))?;
        let new = &into.filled()[before..];
        let length = own_length(self, new);
        let count = length.unwrap_or_default();
        if let Some(socket) = &mut self.socket
            && count < new.len()
        {
            socket.read_ahead.extend_from_slice(&new[count..]);
        }
        into.set_filled(before + count);
        Poll::Ready(Ok(length))
    }

    fn read_head(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.state.phase() == RequestPhase::Idle {
            self.head = HeadScanner::START;
            self.head_bytes = 0;
            self.head_by = None;
        }
        if !self.escaped.is_empty() {
            self.hand_out_escaped(into);
            return Poll::Ready(Ok(()));
        }
        if self.head_bytes >= self.active.load().limits.head as u64 {
            self.state.abort(AbortReason::HeadTooLong);
            return Poll::Pending;
        }
        let before = into.filled().len();
        let outcome = self.read_request_bytes(context, into, |this, new| this.head.take(new));
        match outcome {
            Poll::Pending => return self.wait_to_read(context),
            // The client disconnected. Pingora would log every client that disconnects in mid-head.
            Poll::Ready(Ok(Ok(0)) | Err(_)) if self.head_bytes > 0 => {
                self.state.abort(AbortReason::ClientGone)
            }
            Poll::Ready(Ok(Err(Malformed))) => self.state.abort(AbortReason::MalformedHead),
            Poll::Ready(Ok(Ok(0))) => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(Ok(count))) => {
                self.head_bytes += count as u64;
                self.state.enter_phase(RequestPhase::Head);
                if let Some(escaped) = self.head.escaped(&into.filled()[before..]) {
                    into.set_filled(before);
                    self.escaped = escaped;
                    self.hand_out_escaped(into);
                }
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        }
        Poll::Pending
    }

    /// Returns the rest of a part that escaping has made longer.
    fn hand_out_escaped(&mut self, into: &mut ReadBuf<'_>) {
        let count = self.escaped.len().min(into.remaining());
        into.put_slice(&self.escaped[..count]);
        self.escaped.drain(..count);
    }

    fn read_body(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.state.read_mode() {
            ReadMode::Request if !self.state.body().is_finished() => {}
            ReadMode::LendSocket => {
                let half_close = self.active.load().half_close;
                self.socket();
                self.state.lend_socket(self.socket.take(), half_close);
                return Poll::Pending;
            }
            ReadMode::Request | ReadMode::WatchForClose => return self.watch_for_close(context),
        }
        let outcome =
            self.read_request_bytes(context, into, |this, new| this.state.body().take(new));
        match outcome {
            Poll::Pending => self.wait_to_read(context),
            Poll::Ready(Ok(Ok(_))) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(Err(Malformed))) => Poll::Ready(Err(malformed_body())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// Waits for a disconnect while there is nothing to return. Bytes that arrive meanwhile are kept for later.
    fn watch_for_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let half_close = self.active.load().half_close;
        match self
            .socket()
            .map(|socket| socket.poll_disconnect(half_close, context))
        {
            Some(Poll::Pending) => self.wait_to_read(context),
            Some(Poll::Ready(error)) => Poll::Ready(Err(error)),
            None => Poll::Ready(Err(ErrorKind::NotConnected.into())),
        }
    }

    /// Returns output of the path rewriter. Returns whether there was any.
    fn hand_out(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let Some(rewriter) = &mut self.path_rewriter else {
            return false;
        };
        let out = rewriter.output();
        let count = out.len().min(into.remaining());
        into.put_slice(&out[..count]);
        out.drain(..count);
        count > 0
    }

    /// Reads from an HTTP/2 connection. `h2` separates its streams.
    fn read_http2(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.state.has_pending_heads() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.state.abort_reason() == AbortReason::FrameFlood {
            return Poll::Pending;
        }
        let before = into.filled().len();
        if self.hand_out(into) {
            self.state.set_pending_heads(true);
            return Poll::Ready(Ok(()));
        }
        let outcome = loop {
            let outcome = self.poll_stream(context, into);
            let Poll::Ready(Ok(())) = outcome else {
                break outcome;
            };
            let new = &into.filled()[before..];
            let is_end = new.is_empty();
            let ReadOutcome {
                is_head_complete,
                has_heads,
                is_flood,
            } = self.frames.take(new);
            if is_head_complete {
                self.head_by = None;
            }
            if is_flood {
                self.state.abort(AbortReason::FrameFlood);
                into.set_filled(before);
                return Poll::Pending;
            }
            self.state.set_pending_heads(has_heads);
            if let Some(rewriter) = &mut self.path_rewriter {
                match is_end {
                    true => rewriter.end(),
                    false => {
                        let passes = rewriter.take(new);
                        into.set_filled(before + passes);
                    }
                }
            }
            self.hand_out(into);
            // Bytes that are held back are not the end of the connection.
            if is_end || into.filled().len() > before {
                break outcome;
            }
        };
        if outcome.is_ready() {
            return outcome;
        }
        if self.frames.awaits_head() {
            let head_by = *self
                .head_by
                .get_or_insert_with(|| Instant::now() + self.active.load().timeouts.client_head);
            if self.read_timer.has_elapsed(head_by, context) {
                self.state.abort(AbortReason::HeadTimeout);
            }
        }
        outcome
    }
}

/// The error of an invalid body. `failure` recognizes it by its kind.
fn malformed_body() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the body's chunks are malformed")
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.state.phase() {
            _ if this.is_http2 => this.read_http2(context, into),
            RequestPhase::Idle | RequestPhase::Head => this.read_head(context, into),
            RequestPhase::AfterHead => this.read_body(context, into),
        }
    }
}
