//! What is read from a client: one request at a time, each within its time.

use std::io::{self, ErrorKind};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::Client;
use crate::message::Malformed;
use crate::proxy::client::frames::Taken;
use crate::proxy::client::gate::{Cut, Look, Phase};
use crate::proxy::client::head::Head;

impl Client {
    /// What becomes of a read that has to wait.
    fn wait_to_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.gate.phase() {
            Phase::Rest => {}
            Phase::Head => {
                let head_by = *self
                    .head_by
                    .get_or_insert_with(|| Instant::now() + self.site.load().timeouts.client_head);
                if self.read_alarm.rings(head_by, context) {
                    self.gate.cut(match self.head_bytes {
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

    /// Hands out what belongs to the running request as `own` tells, and holds the rest back.
    fn read_own(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
        own: impl FnOnce(&mut Self, &[u8]) -> Result<usize, Malformed>,
    ) -> Poll<io::Result<Result<usize, Malformed>>> {
        if let Some(socket) = self.socket()
            && !socket.ahead.is_empty()
        {
            let ahead = mem::take(&mut socket.ahead);
            let fitting = &ahead[..ahead.len().min(into.remaining())];
            let own = own(self, fitting);
            let count = own.unwrap_or_default();
            into.put_slice(&ahead[..count]);
            if let Some(socket) = &mut self.socket
                && count < ahead.len()
            {
                socket.ahead = ahead;
                socket.ahead.advance(count);
            }
            return Poll::Ready(Ok(own));
        }
        let before = into.filled().len();
        ready!(self.poll_stream(context, into))?;
        let new = &into.filled()[before..];
        let own = own(self, new);
        let count = own.unwrap_or_default();
        if let Some(socket) = &mut self.socket
            && count < new.len()
        {
            socket.ahead.extend_from_slice(&new[count..]);
        }
        into.set_filled(before + count);
        Poll::Ready(Ok(own))
    }

    fn read_head(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gate.phase() == Phase::Rest {
            self.head = Head::START;
            self.head_bytes = 0;
            self.head_by = None;
        }
        if !self.escaped.is_empty() {
            self.hand_out_escaped(into);
            return Poll::Ready(Ok(()));
        }
        if self.head_bytes >= self.site.load().limits.head as u64 {
            self.gate.cut(Cut::TooLong);
            return Poll::Pending;
        }
        let before = into.filled().len();
        let outcome = self.read_own(context, into, |this, new| this.head.take(new));
        match outcome {
            Poll::Pending => return self.wait_to_read(context),
            // The end of the connection; Pingora would write to the log about each client that leaves so.
            Poll::Ready(Ok(Ok(0)) | Err(_)) if self.head_bytes > 0 => self.gate.cut(Cut::Gone),
            Poll::Ready(Ok(Err(Malformed))) => self.gate.cut(Cut::BadHead),
            Poll::Ready(Ok(Ok(0))) => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(Ok(count))) => {
                self.head_bytes += count as u64;
                self.gate.enter(Phase::Head);
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

    /// Hands out what is left of a piece of a head that has become longer.
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
        match self.gate.looks() {
            Look::Request if !self.gate.body().is_over() => {}
            Look::Lend => {
                let half_close = self.site.load().half_close;
                self.socket();
                self.gate.lend(self.socket.take(), half_close);
                return Poll::Pending;
            }
            Look::Request | Look::Ahead => return self.look_ahead(context),
        }
        let outcome = self.read_own(context, into, |this, new| this.gate.body().take(new));
        match outcome {
            Poll::Pending => self.wait_to_read(context),
            Poll::Ready(Ok(Ok(_))) => Poll::Ready(Ok(())),
            Poll::Ready(Ok(Err(Malformed))) => Poll::Ready(Err(malformed_body())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// Waits while there is nothing to hand out, until the client leaves. What it sends meanwhile is kept for later.
    fn look_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let half_close = self.site.load().half_close;
        match self
            .socket()
            .map(|socket| socket.poll_left(half_close, context))
        {
            Some(Poll::Pending) => self.wait_to_read(context),
            Some(Poll::Ready(left)) => Poll::Ready(Err(left)),
            None => Poll::Ready(Err(ErrorKind::NotConnected.into())),
        }
    }

    /// Hands out what was changed on its way; whether there was anything.
    fn hand_out(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let Some(heads) = &mut self.heads else {
            return false;
        };
        let out = heads.out();
        let count = out.len().min(into.remaining());
        into.put_slice(&out[..count]);
        out.drain(..count);
        count > 0
    }

    /// HTTP/2: what is on the connection is for others to tell apart.
    fn read_shared(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gate.is_full() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.gate.why_cut() == Cut::Flood {
            return Poll::Pending;
        }
        let before = into.filled().len();
        if self.hand_out(into) {
            self.gate.set_full(true);
            return Poll::Ready(Ok(()));
        }
        let outcome = loop {
            let outcome = self.poll_stream(context, into);
            let Poll::Ready(Ok(())) = outcome else {
                break outcome;
            };
            let new = &into.filled()[before..];
            let is_end = new.is_empty();
            let Taken {
                paid,
                heads,
                flooded,
            } = self.frames.take(new);
            if paid {
                self.head_by = None;
            }
            if flooded {
                self.gate.cut(Cut::Flood);
                into.set_filled(before);
                return Poll::Pending;
            }
            self.gate.set_full(heads);
            if let Some(heads) = &mut self.heads {
                match is_end {
                    true => heads.end(),
                    false => {
                        let passes = heads.take(new);
                        into.set_filled(before + passes);
                    }
                }
            }
            self.hand_out(into);
            // What is held is not the end.
            if is_end || into.filled().len() > before {
                break outcome;
            }
        };
        if outcome.is_ready() {
            return outcome;
        }
        if self.frames.owes() {
            let head_by = *self
                .head_by
                .get_or_insert_with(|| Instant::now() + self.site.load().timeouts.client_head);
            if self.read_alarm.rings(head_by, context) {
                self.gate.cut(Cut::Late);
            }
        }
        outcome
    }
}

/// How a read ends where a body is none; `failure` knows it by its kind.
fn malformed_body() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the body's chunks are malformed")
}

impl AsyncRead for Client {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.gate.phase() {
            _ if this.shared => this.read_shared(context, into),
            Phase::Rest | Phase::Head => this.read_head(context, into),
            Phase::Open => this.read_body(context, into),
        }
    }
}
