//! One attempt at a host: sends the request and relays the response, both at the same time.

mod compressed_body;
mod response;

use std::task::{Context, Poll};

use http::StatusCode;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::buffer::{Buffer, LARGE_SIZE};
use super::client_connection::ClientConnection;
use super::header_edits::HeaderEdits;
use super::host_connection::HostConnection;
use super::idle_connections;
use super::request_sender::RequestSender;
use super::send_buffer::SendBuffer;
use crate::message::RequestView;
use crate::message::body_decoder::BodyDecoder;
use crate::message::head::MessageHead;
use crate::proxy::context::RequestContext;

/// Buffers that are reused for each response.
#[derive(Debug, Default)]
pub(super) struct ResponseBuffers {
    head: MessageHead,
    /// Bytes for the client.
    pub(super) outgoing: SendBuffer,
    edits: HeaderEdits,
}

/// How far the response has come.
#[derive(Debug)]
enum ResponseState {
    /// The head is not complete yet.
    AwaitingHead,
    /// The body is being relayed.
    ReceivingBody(BodyDecoder),
    /// All bytes were written; TLS may still buffer some.
    Flushing,
    Done,
}

/// The result of an attempt whose whole response was sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relayed {
    /// Whether the client's connection stays open.
    pub(super) keep_alive: bool,
    /// Whether the client has sent its whole request.
    pub(super) request_complete: bool,
}

/// A running attempt.
pub(super) struct Relay<'r> {
    pub(super) request: RequestView<'r>,
    pub(super) tls: bool,
    pub(super) client: &'r mut ClientConnection,
    /// `None` once the host is released.
    host: Option<HostConnection>,
    /// Bytes from the host that were not written to the client yet.
    inbound: Buffer,
    peer: &'r HttpPeer,
    /// The maximum number of idle connections to hosts.
    max_idle: usize,
    pub(super) ctx: &'r mut RequestContext,
    pub(super) sender: &'r mut RequestSender,
    pub(super) buffers: &'r mut ResponseBuffers,
    /// Whether the client's connection may stay open, as far as known before the response.
    pub(super) keep_alive: bool,
    state: RelayState,
}

/// The progress of the response.
#[derive(Debug)]
struct RelayState {
    down: ResponseState,
    chunked: bool,
    reusable: bool,
    /// The response status, once its head is staged.
    status: Option<StatusCode>,
    /// Body bytes passed to the client so far.
    sent: u64,
    /// When the host must have sent more bytes.
    response_deadline: Option<Instant>,
    /// Whether the whole request was sent.
    request_sent: bool,
    /// Bytes that were compressed in the current poll.
    compressed: usize,
}

impl<'r> Relay<'r> {
    #[allow(clippy::too_many_arguments, reason = "each is a part of the attempt")]
    pub(super) fn new(
        request: RequestView<'r>,
        tls: bool,
        client: &'r mut ClientConnection,
        (host, peer, max_idle): (HostConnection, &'r HttpPeer, usize),
        ctx: &'r mut RequestContext,
        sender: &'r mut RequestSender,
        buffers: &'r mut ResponseBuffers,
        keep_alive: bool,
    ) -> Self {
        buffers.outgoing.clear();
        buffers.head.clear();
        Relay {
            request,
            tls,
            client,
            host: Some(host),
            inbound: Buffer::default(),
            peer,
            max_idle,
            ctx,
            sender,
            buffers,
            keep_alive,
            state: RelayState {
                down: ResponseState::AwaitingHead,
                chunked: false,
                reusable: false,
                status: None,
                sent: 0,
                response_deadline: None,
                request_sent: false,
                compressed: 0,
            },
        }
    }

    /// The status that the client has begun to receive, and the number of body bytes.
    pub(super) fn sent_so_far(&self) -> (Option<StatusCode>, u64) {
        (self.state.status, self.state.sent)
    }

    /// If the host has switched protocols: its connection, and the bytes that followed its response head.
    pub(super) fn into_tunnel(self) -> Option<(HostConnection, Buffer)> {
        let switched = self.state.status == Some(StatusCode::SWITCHING_PROTOCOLS);
        let host = self.host.filter(|_| switched)?;
        Some((host, self.inbound))
    }

    /// Advances both directions. Ready once the whole response was sent.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Relayed>> {
        let up = self.poll_up(context)?;
        if self.ctx.copy.is_some() && self.sender.is_complete() {
            self.ctx.send_copy(self.sender.kept_body());
        }
        if let Poll::Ready(()) = up
            && !self.state.request_sent
        {
            self.state.request_sent = true;
            // The response time starts after the upload, so that a slow client does not make the host look slow.
            if !self.sender.bodiless && matches!(self.state.down, ResponseState::AwaitingHead) {
                self.ctx.attempt_started = std::time::Instant::now();
            }
        }
        if self.poll_down(context)?.is_ready() {
            let request_complete = self.sender.is_complete();
            return Poll::Ready(Ok(Relayed {
                keep_alive: self.keep_alive && request_complete,
                request_complete,
            }));
        }
        if self.sender.is_complete() {
            // The request is complete, so nothing else reads from the client: watch for its disconnect here.
            let half_close = self.ctx.active.half_close;
            if let Poll::Ready(error) = self.client.poll_disconnect(context, half_close) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Pending
    }

    fn poll_up(&mut self, context: &mut Context<'_>) -> Result<Poll<()>> {
        if self.state.request_sent {
            return Ok(Poll::Ready(()));
        }
        let Some(host) = &mut self.host else {
            return Ok(Poll::Pending);
        };
        match self.sender.poll(context, self.client, host, self.ctx) {
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn poll_down(&mut self, context: &mut Context<'_>) -> Result<Poll<()>> {
        let limit = self.ctx.timeouts().write;
        self.state.compressed = 0;
        loop {
            let written = self
                .buffers
                .outgoing
                .poll_write_all(&mut self.inbound, |parts| {
                    self.client.poll_write(context, parts, limit)
                });
            match written {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(written) => written?,
            }
            match &mut self.state.down {
                ResponseState::Done => return Ok(Poll::Ready(())),
                ResponseState::Flushing => match self.client.poll_flush(context, limit) {
                    Poll::Pending => return Ok(Poll::Pending),
                    Poll::Ready(flushed) => {
                        flushed?;
                        self.state.down = ResponseState::Done;
                        continue;
                    }
                },
                ResponseState::ReceivingBody(body) if body.is_finished() => {
                    self.state.down = ResponseState::Flushing;
                    continue;
                }
                ResponseState::ReceivingBody(_) if !self.inbound.is_empty() => {
                    if self.yields_after_compressing(context) {
                        return Ok(Poll::Pending);
                    }
                    self.take_body()?;
                    self.release_host_early();
                    continue;
                }
                ResponseState::AwaitingHead if !self.inbound.is_empty() => {
                    if self.take_head()? {
                        self.release_host_early();
                        continue;
                    }
                }
                ResponseState::ReceivingBody(_) | ResponseState::AwaitingHead => {}
            }
            let Some(host) = &mut self.host else {
                let why = "the response continues after its end";
                return Error::e_explain(ErrorType::InternalError, why);
            };
            match host
                .socket
                .poll_read(context, &mut self.inbound, LARGE_SIZE)
            {
                Poll::Pending => {
                    if self.flush_compression()? {
                        continue;
                    }
                    if matches!(self.state.down, ResponseState::ReceivingBody(_))
                        && let Poll::Ready(flushed) = self.client.poll_flush(context, limit)
                    {
                        flushed?;
                    }
                    return self.wait_for_host(context);
                }
                Poll::Ready(Ok(0)) => {
                    self.host_closed()?;
                    self.release_host_early();
                }
                Poll::Ready(Ok(_)) => {
                    if matches!(self.state.down, ResponseState::ReceivingBody(_)) {
                        self.state.response_deadline = None;
                    }
                }
                Poll::Ready(Err(error)) => return Err(self.read_error(error)),
            }
        }
    }

    /// Releases the host as soon as it has sent the whole response: the next request need not wait for this client to
    /// read it.
    fn release_host_early(&mut self) {
        if !matches!(&self.state.down, ResponseState::ReceivingBody(body) if body.is_finished()) {
            return;
        }
        let Some(host) = self.host.take() else {
            return;
        };
        let is_reusable = self.state.reusable
            && self.sender.is_sent()
            && self.sender.write_error.is_none()
            && self.inbound.len() == self.buffers.outgoing.passthrough;
        if is_reusable {
            idle_connections::put(self.peer, host, self.max_idle);
        }
        self.ctx.release_host();
        self.ctx.in_flight.release_slot();
    }
}
