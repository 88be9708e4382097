//! Sends a request to a host: the head, then the body as the client sends it.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use pingora::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::buffer::{LARGE_SIZE, SMALL_SIZE};
use super::client_connection::ClientConnection;
use super::host_connection::HostConnection;
use super::send_buffer::SendBuffer;
use crate::message::body_decoder::BodyDecoder;
use crate::message::chunked;
use crate::proxy::context::RequestContext;
use crate::proxy::http_rules;

/// The maximum number of body bytes that are kept for a retry.
const MAX_REPLAY: usize = 64 << 10;

/// How long a request may wait for body bytes before `min_body_rate` applies.
const RATE_GRACE: Duration = Duration::from_secs(5);

/// The state of a request body on its way to a host. It spans all attempts of the request.
#[derive(Debug)]
pub(super) struct RequestSender {
    body: BodyDecoder,
    /// Whether the request has no body.
    pub(super) bodiless: bool,
    /// Bytes for the host.
    outgoing: SendBuffer,
    /// The body sent so far, for a retry.
    replay: Vec<u8>,
    /// Whether `replay` is incomplete because the body was too large.
    truncated: bool,
    /// Body bytes received from the client, without chunk framing.
    pub(super) received: u64,
    /// The bytes counted against the body limit.
    counted: u64,
    /// When the sender began to wait for the client.
    waiting_since: Option<Instant>,
    waited: Duration,
    /// When the host must have accepted more bytes.
    write_deadline: Option<Instant>,
    /// The error that ended writing to the host.
    pub(super) write_error: Option<Box<Error>>,
}

impl RequestSender {
    pub(super) fn new(body: BodyDecoder, staged: Vec<u8>) -> Self {
        RequestSender {
            bodiless: body.is_finished(),
            body,
            outgoing: SendBuffer::new(staged),
            replay: Vec::new(),
            truncated: false,
            received: 0,
            counted: 0,
            waiting_since: None,
            waited: Duration::ZERO,
            write_deadline: None,
            write_error: None,
        }
    }

    /// Whether the client has sent the whole request.
    pub(super) fn is_complete(&self) -> bool {
        self.body.is_finished()
    }

    /// Whether the body is sent in chunks.
    pub(super) fn is_chunked(&self) -> bool {
        matches!(self.body, BodyDecoder::Chunked(_))
    }

    /// Whether the whole request was written to the host.
    pub(super) fn is_sent(&self) -> bool {
        self.body.is_finished() && self.outgoing.is_empty()
    }

    /// Whether all body bytes read so far can be sent again.
    pub(super) fn is_replayable(&self) -> bool {
        !self.truncated
    }

    /// The body as it is sent to the host, chunks included, for a copy of the request. `None`: it was too large to be
    /// kept.
    pub(super) fn kept_body(&self) -> Option<Bytes> {
        (!self.truncated).then(|| Bytes::copy_from_slice(&self.replay))
    }

    /// Prepares the next attempt: stages the request head, which `head` appends, and the body bytes that were already
    /// read.
    pub(super) fn start_attempt(
        &mut self,
        client: &mut ClientConnection,
        head: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        // These bytes are in the replay buffer already.
        client.inbound.consume(self.outgoing.passthrough);
        self.outgoing.clear();
        self.write_deadline = None;
        self.write_error = None;
        head(&mut self.outgoing.staged)?;
        self.outgoing.staged.extend_from_slice(&self.replay);
        Ok(())
    }

    /// Ends the request and returns the staging buffer. Body bytes that were not forwarded are discarded, so that they
    /// are not parsed as the next request.
    pub(super) fn finish(self, client: &mut ClientConnection) -> Vec<u8> {
        client.inbound.consume(self.outgoing.passthrough);
        self.outgoing.staged
    }

    /// Sends as much as possible. Pending while the client or the host is slow; after a write error it stays pending,
    /// because the host may still respond.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        client: &mut ClientConnection,
        host: &mut HostConnection,
        ctx: &mut RequestContext,
    ) -> Poll<Result<()>> {
        loop {
            if self.write_error.is_some() {
                return Poll::Pending;
            }
            let written = self.outgoing.poll_write_all(&mut client.inbound, |parts| {
                let written = host.socket.poll_write(context, parts);
                if let Poll::Ready(Ok(_)) = written {
                    self.write_deadline = None;
                }
                written
            });
            match written {
                Poll::Pending => return self.wait_for_host(context, client, ctx),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    // The host may have sent a response before it closed.
                    let error = Error::because(ErrorType::WriteError, "the request", error);
                    self.write_error = Some(error.into_up());
                    return Poll::Pending;
                }
            }
            if self.body.is_finished() {
                match host.socket.poll_flush(context) {
                    Poll::Pending => return self.wait_for_host(context, client, ctx),
                    Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                    Poll::Ready(Err(error)) => {
                        let error = Error::because(ErrorType::WriteError, "the request", error);
                        self.write_error = Some(error.into_up());
                        return Poll::Pending;
                    }
                }
            }
            if !client.inbound.is_empty() {
                self.take_body(client, ctx)?;
                continue;
            }
            let size = match self.body {
                BodyDecoder::Length(left) if left <= SMALL_SIZE as u64 => SMALL_SIZE,
                _ => LARGE_SIZE,
            };
            match client.poll_read(context, size) {
                Poll::Pending => {
                    // TLS may buffer bytes; send them while the client is slow.
                    let _ = host.socket.poll_flush(context);
                    return self.wait_for_client(context, client, ctx);
                }
                Poll::Ready(Ok(0)) => {
                    let gone =
                        "the client has shut down its sending side before the end of the body";
                    let error = Error::explain(ErrorType::ConnectionClosed, gone);
                    return Poll::Ready(Err(error.into_down()));
                }
                Poll::Ready(Err(error)) => {
                    let error = Error::because(ErrorType::ReadError, "the body", error);
                    return Poll::Ready(Err(error.into_down()));
                }
                Poll::Ready(Ok(_)) => {
                    if let Some(since) = self.waiting_since.take() {
                        self.waited += since.elapsed();
                    }
                    self.check_body_rate(ctx)?;
                }
            }
        }
    }

    /// Consumes received body bytes: stages them re-chunked, or marks them as pass-through.
    fn take_body(&mut self, client: &mut ClientConnection, ctx: &mut RequestContext) -> Result<()> {
        let bytes = client.inbound.filled();
        match &mut self.body {
            BodyDecoder::Chunked(chunked) => {
                let mut consumed = 0;
                let before = self.outgoing.staged.len();
                while consumed < bytes.len() && !chunked.is_finished() {
                    let piece = chunked
                        .next_data(&bytes[consumed..])
                        .map_err(|_| malformed())?;
                    let data = &bytes[consumed..][piece.data];
                    consumed += piece.consumed;
                    if data.is_empty() {
                        continue;
                    }
                    self.received += data.len() as u64;
                    http_rules::count_body_bytes(&mut self.counted, data.len(), ctx.limits().body)?;
                    chunked::write_chunk_start(&mut self.outgoing.staged, data.len());
                    self.outgoing.staged.extend_from_slice(data);
                    self.outgoing.staged.extend_from_slice(chunked::CHUNK_END);
                }
                if chunked.is_finished() {
                    self.outgoing.staged.extend_from_slice(chunked::LAST_CHUNK);
                }
                client.inbound.consume(consumed);
                let new = &self.outgoing.staged[before..];
                append_replay(&mut self.replay, &mut self.truncated, new);
            }
            body => {
                let count = body.take(bytes).map_err(|_| malformed())?;
                self.outgoing.passthrough = count;
                self.received += count as u64;
                http_rules::count_body_bytes(&mut self.counted, count, ctx.limits().body)?;
                append_replay(&mut self.replay, &mut self.truncated, &bytes[..count]);
            }
        }
        Ok(())
    }

    /// Fails if the client sends the body slower than `min_body_rate`.
    fn check_body_rate(&self, ctx: &RequestContext) -> Result<()> {
        let Some(rate) = ctx.active.limits.min_body_rate else {
            return Ok(());
        };
        let minimum = rate as f64 * self.waited.as_secs_f64();
        if self.waited > RATE_GRACE && (self.received as f64) < minimum {
            let slow = "the body comes too slowly";
            return Err(Error::explain(ErrorType::ReadTimedout, slow).into_down());
        }
        Ok(())
    }

    fn wait_for_client(
        &mut self,
        context: &mut Context<'_>,
        client: &mut ClientConnection,
        ctx: &RequestContext,
    ) -> Poll<Result<()>> {
        let wait_began = *self.waiting_since.get_or_insert_with(Instant::now);
        if client
            .timer
            .has_elapsed(wait_began + ctx.timeouts().read, context)
        {
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
        client: &mut ClientConnection,
        ctx: &RequestContext,
    ) -> Poll<Result<()>> {
        let limit = ctx.timeouts().write;
        let deadline = *self
            .write_deadline
            .get_or_insert_with(|| Instant::now() + limit);
        if client.timer.has_elapsed(deadline, context) {
            let late = "the host does not read the request";
            return Poll::Ready(Err(Error::explain(ErrorType::WriteTimedout, late).into_up()));
        }
        Poll::Pending
    }
}

/// Keeps sent body bytes for a retry, up to [`MAX_REPLAY`].
fn append_replay(replay: &mut Vec<u8>, truncated: &mut bool, bytes: &[u8]) {
    if *truncated || replay.len() + bytes.len() > MAX_REPLAY {
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
