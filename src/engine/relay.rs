//! One attempt at a host: the request goes up and the answer comes down, both at once.

mod answer;

use std::task::{Context, Poll};

use http::StatusCode;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::buffer::{Buffer, COPIED, LARGE};
use super::client::Client;
use super::hosts::{self, Host};
use super::outgoing::Additions;
use super::upload::Upload;
use crate::message::RequestView;
use crate::message::body::Body;
use crate::message::head::Head;
use crate::proxy::context::RequestContext;

/// What is used again for each answer.
#[derive(Debug, Default)]
pub(super) struct AnswerRoom {
    head: Head,
    /// What goes to the client before bytes of the host's.
    pub(super) staged: Vec<u8>,
    additions: Additions,
}

/// The answer, as far as it has come.
#[derive(Debug)]
enum Down {
    /// Its head is to come.
    Head,
    /// Its body is passed on.
    Body(Body),
    /// It has gone out, but for what is kept back.
    Flush,
    Over,
}

/// What came of an attempt whose answer has gone out whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relayed {
    /// Whether the client's connection is kept.
    pub(super) keep: bool,
    /// Whether the client has sent all of the request.
    pub(super) whole: bool,
}

/// An attempt.
pub(super) struct Relay<'r> {
    pub(super) request: RequestView<'r>,
    pub(super) tls: bool,
    pub(super) client: &'r mut Client,
    /// `None` once it has done its part.
    host: Option<Host>,
    /// What has come from it and has not gone to the client.
    inbound: Buffer,
    peer: &'r HttpPeer,
    /// How many connections to hosts may be idle.
    idle: usize,
    pub(super) ctx: &'r mut RequestContext,
    pub(super) upload: &'r mut Upload,
    pub(super) room: &'r mut AnswerRoom,
    /// Whether the client's connection may be kept, as far as it is known before the answer.
    pub(super) keep: bool,
    state: State,
}

/// How far the answer is.
#[derive(Debug)]
struct State {
    down: Down,
    /// Bytes at the beginning of the host's that go to the client as they are.
    raw: usize,
    /// How much of what is staged has gone.
    written: usize,
    chunked: bool,
    reusable: bool,
    /// The status of the answer, once its head is on its way.
    status: Option<StatusCode>,
    /// Bytes of its body that have gone.
    sent: u64,
    /// When the host must have sent more.
    answer_by: Option<Instant>,
    /// Whether the host has been told to have all of the request.
    asked: bool,
}

impl<'r> Relay<'r> {
    #[allow(clippy::too_many_arguments, reason = "each is a part of the attempt")]
    pub(super) fn new(
        request: RequestView<'r>,
        tls: bool,
        client: &'r mut Client,
        (host, peer, idle): (Host, &'r HttpPeer, usize),
        ctx: &'r mut RequestContext,
        upload: &'r mut Upload,
        room: &'r mut AnswerRoom,
        keep: bool,
    ) -> Self {
        room.staged.clear();
        room.head.clear();
        Relay {
            request,
            tls,
            client,
            host: Some(host),
            inbound: Buffer::default(),
            peer,
            idle,
            ctx,
            upload,
            room,
            keep,
            state: State {
                down: Down::Head,
                raw: 0,
                written: 0,
                chunked: false,
                reusable: false,
                status: None,
                sent: 0,
                answer_by: None,
                asked: false,
            },
        }
    }

    /// The status that the client has begun to get, and how many bytes of the body.
    pub(super) fn told(&self) -> (Option<StatusCode>, u64) {
        (self.state.status, self.state.sent)
    }

    /// The host and what it has sent behind its answer, if that has switched protocols.
    pub(super) fn into_tunnel(self) -> Option<(Host, Buffer)> {
        let switched = self.state.status == Some(StatusCode::SWITCHING_PROTOCOLS);
        let host = self.host.filter(|_| switched)?;
        Some((host, self.inbound))
    }

    /// Brings both directions forward; ready when the answer has gone out whole.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Relayed>> {
        if let Poll::Ready(()) = self.poll_up(context)?
            && !self.state.asked
        {
            self.state.asked = true;
            // A client that uploads slowly does not make the host slow.
            if !self.upload.bodiless && matches!(self.state.down, Down::Head) {
                self.ctx.started = std::time::Instant::now();
            }
        }
        if self.poll_down(context)?.is_ready() {
            let whole = self.upload.is_whole();
            return Poll::Ready(Ok(Relayed {
                keep: self.keep && whole,
                whole,
            }));
        }
        if self.upload.is_whole() {
            // Nobody else reads from the client, and one that has left need not be served.
            let half_close = self.ctx.site.half_close;
            if let Poll::Ready(left) = self.client.poll_left(context, half_close) {
                return Poll::Ready(Err(left));
            }
        }
        Poll::Pending
    }

    fn poll_up(&mut self, context: &mut Context<'_>) -> Result<Poll<()>> {
        if self.state.asked {
            return Ok(Poll::Ready(()));
        }
        let Some(host) = &mut self.host else {
            return Ok(Poll::Pending);
        };
        match self.upload.poll(context, self.client, host, self.ctx) {
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn poll_down(&mut self, context: &mut Context<'_>) -> Result<Poll<()>> {
        let timeouts = self.ctx.site.timeouts;
        loop {
            if (1..=COPIED).contains(&self.state.raw) && !self.room.staged.is_empty() {
                let bytes = &self.inbound.filled()[..self.state.raw];
                self.room.staged.extend_from_slice(bytes);
                self.inbound.consume(std::mem::take(&mut self.state.raw));
            }
            while self.state.written < self.room.staged.len() || self.state.raw > 0 {
                let parts = [
                    &self.room.staged[self.state.written..],
                    &self.inbound.filled()[..self.state.raw],
                ];
                match self.client.poll_write(context, parts, timeouts.write) {
                    Poll::Pending => return Ok(Poll::Pending),
                    Poll::Ready(count) => {
                        let count = count?;
                        let staged = count.min(self.room.staged.len() - self.state.written);
                        self.state.written += staged;
                        self.state.raw -= count - staged;
                        self.inbound.consume(count - staged);
                    }
                }
            }
            if !self.room.staged.is_empty() {
                self.room.staged.clear();
                self.state.written = 0;
            }
            match &mut self.state.down {
                Down::Over => return Ok(Poll::Ready(())),
                Down::Flush => match self.client.poll_flush(context, timeouts.write) {
                    Poll::Pending => return Ok(Poll::Pending),
                    Poll::Ready(flushed) => {
                        flushed?;
                        self.state.down = Down::Over;
                        continue;
                    }
                },
                Down::Body(body) if body.is_over() => {
                    self.state.down = Down::Flush;
                    continue;
                }
                Down::Body(_) if !self.inbound.is_empty() => {
                    self.take_body()?;
                    self.settle();
                    continue;
                }
                Down::Head if !self.inbound.is_empty() => {
                    if self.take_head()? {
                        self.settle();
                        continue;
                    }
                }
                Down::Body(_) | Down::Head => {}
            }
            let Some(host) = &mut self.host else {
                let why = "the answer goes on behind its end";
                return Error::e_explain(ErrorType::InternalError, why);
            };
            match host.socket.poll_read(context, &mut self.inbound, LARGE) {
                Poll::Pending => {
                    if matches!(self.state.down, Down::Body(_))
                        && let Poll::Ready(flushed) =
                            self.client.poll_flush(context, timeouts.write)
                    {
                        flushed?;
                    }
                    return self.wait_for_host(context);
                }
                Poll::Ready(Ok(0)) => {
                    self.host_ended()?;
                    self.settle();
                }
                Poll::Ready(Ok(_)) => {
                    if matches!(self.state.down, Down::Body(_)) {
                        self.state.answer_by = None;
                    }
                }
                Poll::Ready(Err(error)) => return Err(self.unanswered(error)),
            }
        }
    }

    /// Lets the host go once its answer has come whole: the next request need not wait until the client has read it.
    fn settle(&mut self) {
        if !matches!(&self.state.down, Down::Body(body) if body.is_over()) {
            return;
        }
        let Some(host) = self.host.take() else {
            return;
        };
        let is_free = self.state.reusable
            && self.upload.is_done()
            && self.upload.broken.is_none()
            && self.inbound.len() == self.state.raw;
        if is_free {
            hosts::keep(self.peer, host, self.idle);
        }
        self.ctx.release_host();
        self.ctx.presence.give_place_back();
    }
}
