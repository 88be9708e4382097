//! One request: decided on, sent to a host or several, and answered.

use std::future::poll_fn;
use std::task::Poll;

use http::header::{CONNECTION, EXPECT, HOST};
use http::{Method, Version};
use pingora::ErrorSource;
use tokio::time::{Instant, timeout_at};

use super::attempts::Outcome;
use super::buffer::SMALL;
use super::client::Client;
use super::connection::End;
use super::outgoing::Additions;
use super::relay::AnswerRoom;
use super::upload::Upload;
use super::{Engine, Peer};
use crate::balancer::BalancerError;
use crate::message::body::Body;
use crate::message::framing;
use crate::message::head::Head;
use crate::message::{FieldsView, RequestView};
use crate::proxy::answer::{Answer, Connection, LINGER};
use crate::proxy::context::{NotLeased, RequestContext};
use crate::proxy::failure;
use crate::proxy::passing_on::bare_target;
use crate::proxy::rules::{self, Onward};
use crate::proxy::telling::Passed;

/// What is used again for each request.
#[derive(Debug, Default)]
pub(super) struct Room {
    pub(super) head: Head,
    /// The head of the request.
    bytes: Vec<u8>,
    /// What the host gets of it.
    staged: Vec<u8>,
    additions: Additions,
    answer: AnswerRoom,
}

impl Room {
    /// A request begins whose head is `bytes`.
    pub(super) fn begin(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives back what only an uncommon message needs.
    pub(super) fn shrink(&mut self) {
        for buffer in [&mut self.bytes, &mut self.staged, &mut self.answer.staged] {
            if buffer.capacity() > SMALL {
                *buffer = Vec::new();
            }
        }
    }
}

/// One request.
pub(super) struct Exchange<'c> {
    pub(super) engine: &'c Engine,
    pub(super) client: &'c mut Client,
    pub(super) peer: Peer,
    /// Requests that the connection had before.
    pub(super) requests: u64,
    /// When the head had been read.
    pub(super) began: std::time::Instant,
    /// Bytes of the head, which the client's still begin with.
    pub(super) length: usize,
}

fn view<'a>(head: &'a Head, bytes: &'a [u8], method: &'a Method) -> RequestView<'a> {
    let request = RequestView {
        method,
        target: head.target(bytes),
        authority: None,
        version: head.version().into(),
        fields: FieldsView::Head(head, bytes),
    };
    RequestView {
        authority: bare_target(request).map(|(authority, _)| authority),
        ..request
    }
}

/// Whether the client's connection outlives the request, as far as its head says.
fn is_persistent(request: RequestView<'_>) -> bool {
    !rules::says_close(request)
        && (request.version == Version::HTTP_11
            || framing::has_option(request.get_all(&CONNECTION), b"keep-alive"))
}

impl Exchange<'_> {
    /// Serves the request; `refused` if it is refused before anything is decided.
    pub(super) async fn run(mut self, room: &mut Room, refused: Option<Answer>) -> End {
        let Room {
            head,
            bytes,
            staged,
            additions,
            answer,
        } = room;
        let Ok(method) = Method::from_bytes(head.method(bytes)) else {
            // The parser takes no others.
            return End::Close;
        };
        let request = view(head, bytes, &method);
        self.client.inbound.consume(self.length);
        let site = self.engine.site.load_full();
        let mut ctx = RequestContext::new(site, self.engine.traffic.enter(), self.began);
        ctx.identify(request, self.peer.address);
        let most = ctx.site.limits.max_requests_per_connection;
        let is_last = most.is_some_and(|most| self.requests + 1 >= most);
        let keep = is_persistent(request) && !is_last && !ctx.presence.is_draining();
        let mut body = rules::announced_body(request);
        let judged = match refused {
            Some(answer) => Err((answer, Connection::Close)),
            None => rules::judge(request, Some(bytes), &ctx.site.limits),
        };
        let said = match judged {
            Ok(said) => said,
            Err((answer, connection)) => {
                let keep = keep && connection == Connection::Keep;
                return self
                    .refuse(&mut ctx, request, answer, keep, &mut body)
                    .await;
            }
        };
        let trusted = ctx.is_trusted();
        let is_dropped = |name: &[u8]| rules::is_dropped(name, &ctx.site, trusted);
        head.remove(bytes, is_dropped);
        let request = view(head, bytes, &method);
        if !ctx.presence.admit(ctx.site.limits.max_in_flight) {
            let answer = Answer::OVERLOADED;
            return self
                .refuse(&mut ctx, request, answer, keep, &mut body)
                .await;
        }
        if let Some(answer) = self.engine.proxy.refuse(request, &mut ctx) {
            return self
                .refuse(&mut ctx, request, answer, keep, &mut body)
                .await;
        }
        let onward = match Onward::new(request) {
            Ok(onward) => onward,
            Err(answer) => {
                return self
                    .refuse(&mut ctx, request, answer, false, &mut body)
                    .await;
            }
        };
        match self.lease(&mut ctx, request).await {
            Ok(()) => {}
            Err(NotLeased::Left(left)) => {
                let outcome = Outcome::failed(left);
                return self.end(&mut ctx, request, outcome).await;
            }
            Err(NotLeased::Refused(error)) => {
                let answer = match error {
                    BalancerError::Busy => Answer::QUEUE_FULL,
                    _ => Answer::NO_HOST,
                };
                return self
                    .refuse(&mut ctx, request, answer, keep, &mut body)
                    .await;
            }
        }
        let mut upload = Upload::new(body, std::mem::take(staged));
        let told = (&onward, said, keep);
        let outcome = self
            .attempts(&mut ctx, request, told, &mut upload, additions, answer)
            .await;
        let outcome = Outcome {
            received: upload.received + outcome.received,
            ..outcome
        };
        *staged = upload.end(self.client);
        self.end(&mut ctx, request, outcome).await
    }

    /// Answers a request that goes no further, and tells of it. The rest of its body is read, for a while, if the
    /// connection is kept.
    async fn refuse(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
        answer: Answer,
        keep: bool,
        body: &mut Body,
    ) -> End {
        // A client that waits for "100 Continue" may never send the body, so what follows could be taken for it.
        let keep = keep && !request.fields.contains(&EXPECT);
        let (written, sent) = self.answer(ctx, request, answer, keep).await;
        ctx.refused = Some(answer.ending());
        let passed = Passed {
            request,
            tls: self.peer.tls,
            status: Some(answer.status()),
            received: 0,
            sent,
        };
        ctx.tell(Some(passed), written.as_ref().err().map(|error| &**error));
        match (written, keep) {
            (Err(_), _) => End::Close,
            (Ok(()), true) => match body.is_over() || Box::pin(self.drain(body)).await {
                true => End::Keep,
                false => End::Part,
            },
            (Ok(()), false) => self.leave(body.is_over()),
        }
    }

    /// Sends an answer of our own; returns how many bytes of a body it has.
    async fn answer(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
        answer: Answer,
        keep: bool,
    ) -> (pingora::Result<()>, u64) {
        ctx.presence.give_place_back();
        let mut out = Vec::with_capacity(256);
        let head_only = *request.method == Method::HEAD;
        answer.write(&mut out, Connection::kept(keep), head_only);
        let limit = ctx.site.timeouts.write;
        let written = self.client.write_all(&out, limit).await;
        (written, if head_only { 0 } else { answer.len() as u64 })
    }

    /// How to close the connection of a client that has its answer, and has sent all of its request or not.
    fn leave(&self, whole: bool) -> End {
        match whole && !self.client.has_more() {
            true => End::Shut,
            false => End::Part,
        }
    }

    /// Reads the rest of a body and throws it away. `false`: it does not come, or is none.
    async fn drain(&mut self, body: &mut Body) -> bool {
        let by = Instant::now() + LINGER;
        let client = &mut *self.client;
        let drained = poll_fn(|context| {
            loop {
                let Ok(own) = body.take(client.inbound.filled()) else {
                    return Poll::Ready(false);
                };
                client.inbound.consume(own);
                if body.is_over() {
                    return Poll::Ready(true);
                }
                match client.poll_more(context, SMALL) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        timeout_at(by, drained).await.unwrap_or(false)
    }

    /// Ends a request that was not refused: answers it if nothing has been, and tells of it.
    async fn end(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
        outcome: Outcome,
    ) -> End {
        let Outcome {
            result,
            mut status,
            mut sent,
            received,
        } = outcome;
        let mut end = End::Close;
        match &result {
            Ok(relayed) => {
                ctx.finish();
                end = match relayed.keep {
                    true => End::Keep,
                    false => self.leave(relayed.whole),
                };
            }
            Err(error) => {
                ctx.lease = None;
                let answer = failure::status(error).filter(|_| !ctx.left && status.is_none());
                if let Some(answer) = answer.map(Answer::to_failure) {
                    let (written, length) = self.answer(ctx, request, answer, false).await;
                    if written.is_ok() {
                        status = Some(answer.status());
                        sent = length;
                    }
                    // A client at fault for the error gets no more time, but for the answer to a body that is too large.
                    let is_clients = *error.esource() == ErrorSource::Downstream;
                    if !is_clients || answer.status() == 413 {
                        end = End::Part;
                    }
                }
            }
        }
        ctx.account = None;
        let passed = Passed {
            request,
            tls: self.peer.tls,
            status,
            received,
            sent,
        };
        let error = result.as_ref().err().map(|error| &**error);
        if let Some(error) = error
            && !ctx.left
            && *error.esource() != ErrorSource::Downstream
        {
            let host = request.authority.or_else(|| request.get(&HOST));
            log::error!(
                "Fail to proxy: {error}, status: {}, tries: {}, {} {}, Host: {}",
                status.unwrap_or_default(),
                ctx.attempts.len(),
                request.method,
                String::from_utf8_lossy(request.target),
                String::from_utf8_lossy(host.unwrap_or_default()),
            );
        }
        ctx.tell(Some(passed), error);
        end
    }
}
