//! The request on its way to a host: its head, and its body as it comes.

use std::task::{Context, Poll};
use std::time::Duration;

use pingora::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::buffer::{COPIED, LARGE, SMALL};
use super::client::Client;
use super::hosts::Host;
use crate::message::body::Body;
use crate::message::chunks;
use crate::proxy::context::RequestContext;
use crate::proxy::rules;

/// Bytes of a body that are kept to be sent again.
const REPLAY: usize = 64 << 10;

/// How long a client may take to get a body going before its rate is looked at.
const WARM_UP: Duration = Duration::from_secs(5);

/// The body of a request.
#[derive(Debug)]
pub(super) struct Upload {
    body: Body,
    /// Whether it has a body at all.
    pub(super) bodiless: bool,
    /// Bytes at the beginning of the client's that are the body's and go to the host as they are.
    raw: usize,
    /// What goes to the host before those: the head, and what was put into chunks.
    staged: Vec<u8>,
    /// How much of that has gone.
    written: usize,
    /// What has been sent of the body.
    replay: Vec<u8>,
    /// Whether that is not all.
    truncated: bool,
    /// Bytes of the body that have come, without its framing.
    pub(super) received: u64,
    /// The same in the running attempt.
    counted: u64,
    /// Since when the client owes the next part.
    waiting: Option<Instant>,
    waited: Duration,
    /// Since when the host does not take the next part.
    stuck_by: Option<Instant>,
    /// Why nothing more goes to the host.
    pub(super) broken: Option<Box<Error>>,
}

impl Upload {
    pub(super) fn new(body: Body, staged: Vec<u8>) -> Self {
        Upload {
            bodiless: body.is_over(),
            body,
            raw: 0,
            staged,
            written: 0,
            replay: Vec::new(),
            truncated: false,
            received: 0,
            counted: 0,
            waiting: None,
            waited: Duration::ZERO,
            stuck_by: None,
            broken: None,
        }
    }

    /// Whether the client has sent all of it.
    pub(super) fn is_whole(&self) -> bool {
        self.body.is_over()
    }

    /// Whether the host has all of it.
    pub(super) fn is_done(&self) -> bool {
        self.body.is_over() && self.raw == 0 && self.written == self.staged.len()
    }

    /// Whether what has been read of it can be sent again.
    pub(super) fn is_replayable(&self) -> bool {
        !self.truncated
    }

    /// What the next host gets first: `head` appends it.
    pub(super) fn begin(
        &mut self,
        client: &mut Client,
        head: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        // It is in the replay.
        client.inbound.consume(std::mem::take(&mut self.raw));
        self.staged.clear();
        self.written = 0;
        self.stuck_by = None;
        self.broken = None;
        head(&mut self.staged)?;
        self.staged.extend_from_slice(&self.replay);
        Ok(())
    }

    /// Ends the request. What the host did not get of its body is thrown away: it must not be taken for the next request.
    /// Returns the room of the staged bytes.
    pub(super) fn end(self, client: &mut Client) -> Vec<u8> {
        client.inbound.consume(self.raw);
        self.staged
    }

    /// Sends what there is to send; pending while the client or the host is waited for.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        client: &mut Client,
        host: &mut Host,
        ctx: &mut RequestContext,
    ) -> Poll<Result<()>> {
        loop {
            if self.broken.is_some() {
                return Poll::Pending;
            }
            if (1..=COPIED).contains(&self.raw) && !self.staged.is_empty() {
                self.staged
                    .extend_from_slice(&client.inbound.filled()[..self.raw]);
                client.inbound.consume(std::mem::take(&mut self.raw));
            }
            while self.written < self.staged.len() || self.raw > 0 {
                let parts = [
                    &self.staged[self.written..],
                    &client.inbound.filled()[..self.raw],
                ];
                match host.socket.poll_write(context, parts) {
                    Poll::Pending => return self.wait_for_host(context, client, ctx),
                    Poll::Ready(Err(error)) => {
                        // It may have answered all the same.
                        let error = Error::because(ErrorType::WriteError, "the request", error);
                        self.broken = Some(error.into_up());
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(count)) => {
                        self.stuck_by = None;
                        let staged = count.min(self.staged.len() - self.written);
                        self.written += staged;
                        self.raw -= count - staged;
                        client.inbound.consume(count - staged);
                    }
                }
            }
            if !self.staged.is_empty() {
                self.staged.clear();
                self.written = 0;
            }
            if self.body.is_over() {
                match host.socket.poll_flush(context) {
                    Poll::Pending => return self.wait_for_host(context, client, ctx),
                    Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(error)) => {
                        let error = Error::because(ErrorType::WriteError, "the request", error);
                        self.broken = Some(error.into_up());
                        return Poll::Pending;
                    }
                }
            }
            if !client.inbound.is_empty() {
                self.take(client, ctx)?;
                continue;
            }
            let size = match self.body {
                Body::Length(left) if left <= SMALL as u64 => SMALL,
                _ => LARGE,
            };
            match client.poll_more(context, size) {
                Poll::Pending => {
                    // What was kept back goes out while nothing more comes.
                    let _ = host.socket.poll_flush(context);
                    return self.wait_for_client(context, client, ctx);
                }
                Poll::Ready(Ok(0)) => {
                    let gone = "the client has ended its side amid the body";
                    let error = Error::explain(ErrorType::ConnectionClosed, gone);
                    return Poll::Ready(Err(error.into_down()));
                }
                Poll::Ready(Err(error)) => {
                    let error = Error::because(ErrorType::ReadError, "the body", error);
                    return Poll::Ready(Err(error.into_down()));
                }
                Poll::Ready(Ok(_)) => {
                    if let Some(since) = self.waiting.take() {
                        self.waited += since.elapsed();
                    }
                    self.came_fast_enough(ctx)?;
                }
            }
        }
    }

    /// Takes what has come of the body.
    fn take(&mut self, client: &mut Client, ctx: &mut RequestContext) -> Result<()> {
        let bytes = client.inbound.filled();
        match &mut self.body {
            Body::Chunked(chunked) => {
                let mut at = 0;
                let before = self.staged.len();
                while at < bytes.len() && !chunked.is_over() {
                    let piece = chunked.next_data(&bytes[at..]).map_err(|_| malformed())?;
                    let data = &bytes[at..][piece.data];
                    at += piece.consumed;
                    if data.is_empty() {
                        continue;
                    }
                    self.received += data.len() as u64;
                    rules::body_grew(&mut self.counted, data.len(), ctx.site.limits.body)?;
                    chunks::begin(&mut self.staged, data.len());
                    self.staged.extend_from_slice(data);
                    self.staged.extend_from_slice(chunks::BEHIND_DATA);
                }
                if chunked.is_over() {
                    self.staged.extend_from_slice(chunks::END);
                }
                client.inbound.consume(at);
                let new = &self.staged[before..];
                remember(&mut self.replay, &mut self.truncated, new);
            }
            body => {
                let own = body.take(bytes).map_err(|_| malformed())?;
                self.raw = own;
                self.received += own as u64;
                rules::body_grew(&mut self.counted, own, ctx.site.limits.body)?;
                remember(&mut self.replay, &mut self.truncated, &bytes[..own]);
            }
        }
        Ok(())
    }

    /// An error if the client takes too long over the body.
    fn came_fast_enough(&self, ctx: &RequestContext) -> Result<()> {
        let Some(rate) = ctx.site.limits.min_body_rate else {
            return Ok(());
        };
        let due = rate as f64 * self.waited.as_secs_f64();
        if self.waited > WARM_UP && (self.received as f64) < due {
            let slow = "the body comes too slowly";
            return Err(Error::explain(ErrorType::ReadTimedout, slow).into_down());
        }
        Ok(())
    }

    fn wait_for_client(
        &mut self,
        context: &mut Context<'_>,
        client: &mut Client,
        ctx: &RequestContext,
    ) -> Poll<Result<()>> {
        let since = *self.waiting.get_or_insert_with(Instant::now);
        if client.alarm.rings(since + ctx.site.timeouts.read, context) {
            let late = "the client does not send the body";
            return Poll::Ready(Err(
                Error::explain(ErrorType::ReadTimedout, late).into_down()
            ));
        }
        Poll::Pending
    }

    fn wait_for_host(
        &mut self,
        context: &mut Context<'_>,
        client: &mut Client,
        ctx: &RequestContext,
    ) -> Poll<Result<()>> {
        let limit = ctx.site.timeouts.write;
        let by = *self.stuck_by.get_or_insert_with(|| Instant::now() + limit);
        if client.alarm.rings(by, context) {
            let late = "the host does not take the request";
            return Poll::Ready(Err(Error::explain(ErrorType::WriteTimedout, late).into_up()));
        }
        Poll::Pending
    }
}

/// Keeps what was sent of a body while it is little.
fn remember(replay: &mut Vec<u8>, truncated: &mut bool, bytes: &[u8]) {
    if *truncated || replay.len() + bytes.len() > REPLAY {
        *truncated = true;
        *replay = Vec::new();
    } else {
        replay.extend_from_slice(bytes);
    }
}

fn malformed() -> Box<Error> {
    let error = std::io::Error::from(std::io::ErrorKind::InvalidData);
    Error::because(ErrorType::ReadError, "the body", error).into_down()
}
