//! One request: validates it, runs the attempts at hosts, and reports how it ended.

use std::future::poll_fn;
use std::task::Poll;

use http::header::{CONNECTION, EXPECT, HOST};
use http::{Method, Version};
use pingora::ErrorSource;
use pingora::http::RequestHeader;
use tokio::time::{Instant, timeout_at};

use super::Engine;
use super::buffer::SMALL_SIZE;
use super::client_connection::ClientConnection;
use super::client_peer::ClientPeer;
use super::connection_task::AfterRequest;
use super::header_edits::HeaderEdits;
use super::relay::ResponseBuffers;
use super::request_head::RequestHead;
use super::request_sender::RequestSender;
use super::retry_loop::ExchangeOutcome;
use crate::deadline_timer::DeadlineTimer;
use crate::message::RequestView;
use crate::message::body_decoder::BodyDecoder;
use crate::message::framing;
use crate::message::head::MessageHead;
use crate::proxy::admission::may_need_http2;
use crate::proxy::completion::Transferred;
use crate::proxy::context::{LeaseError, RequestContext};
use crate::proxy::failure;
use crate::proxy::http_rules::{self, RequestFieldFilter};
use crate::proxy::local_message::{LocalMessage, Persistence};
use crate::proxy::local_response::{LINGER, LocalResponse};
use ballast_balancer::BalancerError;

/// Buffers that are reused for each request.
#[derive(Debug, Default)]
pub(super) struct RequestBuffers {
    pub(super) head: MessageHead,
    /// The bytes of the request head.
    bytes: Vec<u8>,
    /// Bytes for the host: the request head, and re-chunked body data.
    staged: Vec<u8>,
    edits: HeaderEdits,
    response_buffers: ResponseBuffers,
    /// The timer of a stream's request. That of a connection stays with it.
    pub(super) timer: DeadlineTimer,
}

impl RequestBuffers {
    /// Starts a request with the head `bytes`.
    pub(super) fn start(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// Frees buffers that an unusually large message has grown.
    pub(super) fn shrink(&mut self) {
        for buffer in [
            &mut self.bytes,
            &mut self.staged,
            &mut self.response_buffers.outgoing.staged,
        ] {
            if buffer.capacity() > SMALL_SIZE {
                *buffer = Vec::new();
            }
        }
    }
}

/// One request of a client connection.
pub(super) struct Exchange<'c> {
    pub(super) engine: &'c Engine,
    pub(super) client: &'c mut ClientConnection,
    pub(super) peer: &'c ClientPeer,
    /// The number of earlier requests on this connection.
    pub(super) requests: u64,
    /// When the whole head had been read.
    pub(super) began: std::time::Instant,
    /// The length of the head, which is still at the front of `client.inbound`. It stays there if the connection is
    /// handed over.
    pub(super) length: usize,
}

/// Whether the request's head allows keep-alive.
fn is_persistent(request: RequestView<'_>) -> bool {
    !http_rules::has_connection_close(request)
        && (request.version == Version::HTTP_11
            || framing::has_option(request.get_all(&CONNECTION), b"keep-alive"))
}

impl Exchange<'_> {
    /// Serves the request. With `refused`, sends that response before any other decision.
    pub(super) async fn run(
        mut self,
        buffers: &mut RequestBuffers,
        http2: Option<&mut RequestHeader>,
        refused: Option<LocalResponse>,
    ) -> AfterRequest {
        let RequestBuffers {
            head,
            bytes,
            staged,
            edits,
            response_buffers,
            ..
        } = buffers;
        let mut head = match http2 {
            Some(head) => RequestHead::Http2(head),
            None => RequestHead::Http1(head, bytes),
        };
        let Some(method) = head.method() else {
            // Unreachable: the parser accepts only valid methods.
            return AfterRequest::Abort;
        };
        let request = head.view(&method);
        let active = self.engine.active.load_full();
        let mut ctx = RequestContext::new(active, self.engine.traffic.enter(), self.began);
        ctx.identify(request, self.peer.info.address.map(|address| address.ip()));
        if ctx.active.sends_proxy_protocol {
            self.peer.describe(&self.client.transport);
        }
        let max = ctx.active.limits.max_requests_per_connection;
        let is_last = max.is_some_and(|max| self.requests + 1 >= max);
        let keep_alive = is_persistent(request) && !is_last && !ctx.in_flight.is_draining();
        let mut body = self.client.body_decoder(request);
        let validated = match refused {
            Some(response) => Err((response, Persistence::Close)),
            None => http_rules::validate_request(request, head.raw(), &ctx.active.limits),
        };
        let content_length = match validated {
            Ok(content_length) => content_length,
            Err((response, connection)) => {
                self.client.inbound.consume(self.length);
                let keep_alive = keep_alive && connection == Persistence::KeepAlive;
                return self
                    .refuse(&mut ctx, request, response.into(), keep_alive, &mut body)
                    .await;
            }
        };
        let trusted = ctx.is_trusted();
        head.drop_fields(&ctx.active, trusted);
        let request = head.view(&method);
        // Calls of gRPC have deadlines and trailers, which hosts of HTTP/1.1 do not.
        if ctx.grpc.is_some() || (ctx.active.has_http2_hosts && may_need_http2(request, &ctx)) {
            // Pingora reports the request.
            ctx.is_reported = true;
            return AfterRequest::HandOver;
        }
        self.client.inbound.consume(self.length);
        if !ctx.in_flight.admit(ctx.active.limits.max_in_flight) {
            let response = LocalResponse::OVERLOADED;
            return self
                .refuse(&mut ctx, request, response.into(), keep_alive, &mut body)
                .await;
        }
        let mut response = self.admit(&mut ctx, request);
        if response.is_none() && ctx.needs_authentication() {
            response = match Box::pin(self.authenticate(&mut ctx, request)).await {
                Ok(refused) => refused,
                Err(error) => {
                    let outcome = ExchangeOutcome::failed(error);
                    return self.finish(&mut ctx, request, outcome).await;
                }
            };
        }
        if let Some(response) = response.or_else(|| self.respond(&mut ctx, request)) {
            let keep_alive = keep_alive && response.persistence() == Persistence::KeepAlive;
            return self
                .refuse(&mut ctx, request, response, keep_alive, &mut body)
                .await;
        }
        let field_filter = match RequestFieldFilter::new(request) {
            Ok(filter) => filter,
            Err(response) => {
                return self
                    .refuse(&mut ctx, request, response.into(), false, &mut body)
                    .await;
            }
        };
        match self.lease(&mut ctx, request).await {
            Ok(()) => {}
            Err(LeaseError::ClientLeft(error)) => {
                let outcome = ExchangeOutcome::failed(error);
                return self.finish(&mut ctx, request, outcome).await;
            }
            Err(LeaseError::Refused(error)) => {
                let response = match error {
                    BalancerError::Busy => LocalResponse::QUEUE_FULL,
                    _ => LocalResponse::NO_HOST,
                };
                return self
                    .refuse(&mut ctx, request, response.into(), keep_alive, &mut body)
                    .await;
            }
        }
        let mut sender = RequestSender::new(body, std::mem::take(staged));
        let forward = (&field_filter, content_length, keep_alive);
        let outcome = self
            .run_attempts(
                &mut ctx,
                request,
                forward,
                &mut sender,
                edits,
                response_buffers,
            )
            .await;
        let outcome = ExchangeOutcome {
            received: sender.received + outcome.received,
            ..outcome
        };
        *staged = sender.finish(self.client);
        self.finish(&mut ctx, request, outcome).await
    }

    /// Sends a local response to a refused request and reports it. If the connection stays open, the rest of the body
    /// is read first, for at most [`LINGER`].
    async fn refuse(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
        mut response: Box<LocalMessage>,
        keep_alive: bool,
        body: &mut BodyDecoder,
    ) -> AfterRequest {
        // A client that waits for "100 Continue" may never send the body: its next request would then be read as the
        // body.
        let keep_alive = keep_alive && !request.fields.contains(&EXPECT);
        let (written, sent) = self
            .send_response(ctx, request, &mut response, keep_alive)
            .await;
        ctx.refused = Some(response.termination());
        let transferred = Transferred {
            request,
            tls: self.peer.info.tls,
            status: Some(response.status()),
            received: 0,
            sent,
        };
        ctx.report(
            Some(transferred),
            written.as_ref().err().map(|error| &**error),
        );
        match (written, keep_alive) {
            (Err(_), _) => AfterRequest::Abort,
            (Ok(()), true) => match body.is_finished() || Box::pin(self.drain_body(body)).await {
                true => AfterRequest::KeepAlive,
                false => AfterRequest::LingeringClose,
            },
            (Ok(()), false) => self.after_response(body.is_finished()),
        }
    }

    /// Sends a local response; returns the number of body bytes sent.
    async fn send_response(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
        response: &mut LocalMessage,
        keep_alive: bool,
    ) -> (pingora::Result<()>, u64) {
        ctx.in_flight.release_slot();
        ctx.edit_local(response, request, self.peer.info.tls);
        let mut out = Vec::with_capacity(256);
        let head_only = *request.method == Method::HEAD;
        response.write(
            &mut out,
            Persistence::from_keep_alive(keep_alive),
            head_only,
        );
        let limit = ctx.timeouts().write;
        let written = self.client.write_all(&out, limit).await;
        (
            written,
            if head_only {
                0
            } else {
                response.body().len() as u64
            },
        )
    }

    /// How to close the connection after the response. Unread request bytes require a lingering close.
    fn after_response(&self, request_complete: bool) -> AfterRequest {
        match request_complete && !self.client.has_unread() {
            true => AfterRequest::Close,
            false => AfterRequest::LingeringClose,
        }
    }

    /// Reads and discards the rest of the body. `false` if it does not arrive in time or is malformed.
    async fn drain_body(&mut self, body: &mut BodyDecoder) -> bool {
        let deadline = Instant::now() + LINGER;
        let client = &mut *self.client;
        let drained = poll_fn(|context| {
            loop {
                let Ok(count) = body.take(client.inbound.filled()) else {
                    return Poll::Ready(false);
                };
                client.inbound.consume(count);
                if body.is_finished() {
                    return Poll::Ready(true);
                }
                match client.poll_read(context, SMALL_SIZE) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        timeout_at(deadline, drained).await.unwrap_or(false)
    }

    /// Finishes a request that was not refused: sends an error response if nothing was sent yet, and reports it.
    async fn finish(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
        outcome: ExchangeOutcome,
    ) -> AfterRequest {
        let ExchangeOutcome {
            result,
            mut status,
            mut sent,
            received,
        } = outcome;
        let mut end = AfterRequest::Abort;
        match &result {
            Ok(relayed) => {
                ctx.finish_attempt();
                end = match relayed.keep_alive {
                    true => AfterRequest::KeepAlive,
                    false => self.after_response(relayed.request_complete),
                };
            }
            Err(error) => {
                ctx.lease = None;
                let response =
                    failure::status_for(error).filter(|_| !ctx.has_client_left && status.is_none());
                if let Some(status_code) = response {
                    let mut response =
                        Box::<LocalMessage>::from(LocalResponse::for_status(status_code));
                    let (written, length) =
                        self.send_response(ctx, request, &mut response, false).await;
                    if written.is_ok() {
                        status = Some(response.status());
                        sent = length;
                    }
                    // If the client caused the error, its connection closes at once, except after a 413 response, which
                    // the client must be able to read.
                    let is_client_error = *error.esource() == ErrorSource::Downstream;
                    if !is_client_error || response.status() == 413 {
                        end = AfterRequest::LingeringClose;
                    }
                }
            }
        }
        ctx.retry_handle = None;
        let transferred = Transferred {
            request,
            tls: self.peer.info.tls,
            status,
            received,
            sent,
        };
        let error = result.as_ref().err().map(|error| &**error);
        if let Some(error) = error
            && !ctx.has_client_left
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
        ctx.report(Some(transferred), error);
        end
    }
}
