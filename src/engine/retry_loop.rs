//! Runs the attempts of a request: leases a host, connects, relays, and retries if the policy allows.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, HOST};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use tokio::time::Instant;

use super::buffer::Buffer;
use super::exchange::Exchange;
use super::header_edits::HeaderEdits;
use super::host_connection::{self, HostConnection};
use super::idle_connections;
use super::relay::{Relay, Relayed, ResponseBuffers};
use super::request_sender::RequestSender;
use super::tunnel::Tunnel;
use crate::config::ProxyProtocolVersion;
use crate::message::RequestView;
use crate::message::encode::{write_field, write_head_end, write_number_field, write_request_line};
use crate::message::framing::ContentLength;
use crate::proxy::attempt;
use crate::proxy::context::{LeaseError, RequestContext};
use crate::proxy::forwarding::header_editor::HeaderEditor;
use crate::proxy::forwarding::upstream_request::split_absolute_target;
use crate::proxy::http_rules::RequestFieldFilter;
use crate::proxy_protocol::{ProxiedConnection, ProxyConnector};
use ballast_balancer::BalancerError;

/// How a request that was not refused ended.
pub(super) struct ExchangeOutcome {
    pub(super) result: Result<Relayed>,
    /// The status that the client has begun to receive.
    pub(super) status: Option<u16>,
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl ExchangeOutcome {
    pub(super) fn failed(error: Box<Error>) -> Self {
        ExchangeOutcome {
            result: Err(error),
            status: None,
            sent: 0,
            received: 0,
        }
    }
}

/// An attempt at a host that learns of the client's connection.
#[derive(Clone, Copy)]
struct ProxiedAttempt<'c> {
    client: &'c ProxiedConnection,
    version: ProxyProtocolVersion,
}

impl ProxiedAttempt<'_> {
    /// With which a new connection to the host begins.
    fn header(self) -> Bytes {
        self.client.header(self.version)
    }
}

impl<'c> Exchange<'c> {
    /// Leases a host for the next attempt. If every host is full, the request waits in the queue for as long as the
    /// client stays connected.
    pub(super) async fn lease(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
    ) -> Result<(), LeaseError> {
        match ctx.try_lease(request) {
            Err(BalancerError::Busy) if ctx.pool().has_queue_room() => {
                let half_close = ctx.active.half_close;
                let client = &mut *self.client;
                let disconnected = poll_fn(|context| client.poll_disconnect(context, half_close));
                Box::pin(ctx.lease_queued(request, disconnected)).await
            }
            leased => Ok(leased?),
        }
    }

    pub(super) async fn run_attempts(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
        (field_filter, content_length, keep_alive): (&RequestFieldFilter<'_>, ContentLength, bool),
        sender: &mut RequestSender,
        edits: &mut HeaderEdits,
        response_buffers: &mut ResponseBuffers,
    ) -> ExchangeOutcome {
        loop {
            if ctx.lease.is_none() {
                match self.lease(ctx, request).await {
                    Ok(()) => {}
                    Err(LeaseError::ClientLeft(error)) => return ExchangeOutcome::failed(error),
                    Err(LeaseError::Refused(_)) => {
                        let reason = "no usable host is left for another attempt";
                        return ExchangeOutcome::failed(Error::explain(
                            ErrorType::HTTPStatus(503),
                            reason,
                        ));
                    }
                }
            }
            let peer = match ctx.begin_at_host() {
                Ok(peer) => Arc::clone(peer),
                Err(error) => return ExchangeOutcome::failed(error),
            };
            let (host, reused) = match self.take_idle(&peer, ctx) {
                Some(host) => (host, true),
                None => match self.connect(&peer, ctx).await {
                    Ok(host) => (host, false),
                    Err(error) if *error.esource() == ErrorSource::Downstream => {
                        ctx.client_left_while_connecting();
                        return ExchangeOutcome::failed(error);
                    }
                    Err(error) if ctx.connect_failed(&error) => continue,
                    Err(error) => return ExchangeOutcome::failed(error),
                },
            };
            ctx.connected(reused);
            if !reused && let Some(error) = self.client.check_disconnect(ctx.active.half_close) {
                // The request was not sent yet, so the host never sees it.
                return ExchangeOutcome::failed(error);
            }
            let filter = (field_filter, content_length);
            // Over TLS the PROXY header has been sent before the handshake.
            let needs_header = !reused && !peer.is_tls();
            let started = self.start_attempt(ctx, request, filter, sender, edits, needs_header);
            if let Err(error) = started {
                return ExchangeOutcome::failed(error);
            }
            let tls = self.peer.info.tls;
            let client = &mut *self.client;
            let host = (host, &*peer, self.engine.max_idle);
            let mut relay = Relay::new(
                request,
                tls,
                client,
                host,
                ctx,
                sender,
                response_buffers,
                keep_alive,
            );
            let result = poll_fn(|context| relay.poll(context)).await;
            let (status, sent) = relay.sent_so_far();
            let result = match (result, relay.into_tunnel()) {
                (Ok(_), Some(tunnel)) => {
                    return self.tunnel(ctx, tunnel).await;
                }
                (result, _) => result,
            };
            let error = match result {
                Ok(relayed) => {
                    return ExchangeOutcome {
                        result: Ok(relayed),
                        status: status.map(|status| status.as_u16()),
                        sent,
                        received: 0,
                    };
                }
                Err(error) => error.more_context(format!("host {peer}")),
            };
            let progress = attempt::AttemptProgress {
                reused,
                sent: ctx.sent_request(request, sender.is_replayable(), status.is_some()),
                is_request_complete: sender.is_complete(),
                is_bodiless: sender.bodiless,
                write_wait: self.client.write_stall(),
            };
            if !ctx.attempt_failed(&error, request, progress) {
                return ExchangeOutcome {
                    result: Err(error),
                    status: status.map(|status| status.as_u16()),
                    sent,
                    received: 0,
                };
            }
        }
    }

    /// What the leased host learns of the client's connection, if it expects that.
    fn proxied_attempt(&self, ctx: &RequestContext) -> Option<ProxiedAttempt<'c>> {
        let version = ctx.lease.as_ref()?.member().proxy_protocol()?;
        let client = self.peer.describe(&self.client.transport);
        Some(ProxiedAttempt { client, version })
    }

    /// An idle connection to the host of this attempt.
    fn take_idle(&self, peer: &HttpPeer, ctx: &RequestContext) -> Option<HostConnection> {
        let proxied = self.proxied_attempt(ctx);
        let owner = proxied.map(|proxied| proxied.client.id());
        idle_connections::take(peer, owner, Instant::from_std(ctx.attempt_started))
    }

    /// Connects to a host, and gives up if the client disconnects.
    async fn connect(
        &mut self,
        peer: &Arc<HttpPeer>,
        ctx: &RequestContext,
    ) -> Result<HostConnection> {
        let (half_close, limit) = (ctx.active.half_close, Some(ctx.timeouts().connect));
        let mut peer = Arc::clone(peer);
        if peer.options.connection_timeout != limit {
            // The route has a timeout of its own.
            let options = &mut Arc::make_mut(&mut peer).options;
            (options.connection_timeout, options.total_connection_timeout) = (limit, limit);
        }
        let tls = ctx.lease.as_ref().and_then(|lease| lease.member().tls());
        let proxied = self.proxied_attempt(ctx);
        if let Some(proxied) = proxied.filter(|_| tls.is_some()) {
            let connector = ProxyConnector::new(proxied.header());
            Arc::make_mut(&mut peer).options.custom_l4 = Some(Arc::new(connector));
        }
        let owner = proxied.map(|proxied| proxied.client.id());
        // Boxed, because most requests reuse a connection and need no memory for it.
        let mut connecting = Box::pin(host_connection::connect(
            &self.engine.connector,
            (&peer, tls),
            owner,
        ));
        poll_fn(|context| match connecting.as_mut().poll(context) {
            Poll::Ready(connected) => Poll::Ready(connected),
            Poll::Pending => self.client.poll_disconnect(context, half_close).map(Err),
        })
        .await
    }

    /// Runs the tunnel after a protocol upgrade. The lease on the host lasts until the tunnel ends.
    async fn tunnel(
        &mut self,
        ctx: &mut RequestContext,
        tunnel: (HostConnection, Buffer),
    ) -> ExchangeOutcome {
        ctx.begin_tunnel();
        let tunnel = Tunnel::new(self.client, tunnel, *ctx.timeouts());
        let ended = Box::pin(tunnel.run()).await;
        if let Err(error) = &ended.result {
            ctx.tunnel_failed(error);
        }
        let relayed = Relayed {
            keep_alive: false,
            request_complete: true,
        };
        ExchangeOutcome {
            result: ended.result.map(|()| relayed),
            status: Some(StatusCode::SWITCHING_PROTOCOLS.as_u16()),
            sent: ended.sent,
            received: ended.received,
        }
    }

    /// Builds the request head for the host of this attempt, with the PROXY header before it if that is still due.
    fn start_attempt(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
        (field_filter, content_length): (&RequestFieldFilter<'_>, ContentLength),
        sender: &mut RequestSender,
        edits: &mut HeaderEdits,
        needs_header: bool,
    ) -> Result<()> {
        edits.clear();
        let absolute = split_absolute_target(request);
        let host = match request.authority {
            Some(authority) => {
                edits.set("Host", authority)?;
                Some(authority)
            }
            None => request.get(&HOST),
        };
        let connection = self.peer.connection();
        ctx.set_upstream_fields(request, host, connection, edits)?;
        let target = absolute
            .as_ref()
            .map_or(request.target, |(_, target)| target);
        let mut rewritten = None;
        if let Some(route) = ctx.request_edits(request, self.peer.info.tls) {
            route.edit_request(edits)?;
            rewritten = route.target(target);
        }
        let target = rewritten.as_deref().unwrap_or(target);
        let is_chunked = sender.is_chunked();
        let write_head = |out: &mut Vec<u8>| {
            write_request_line(out, request.method.as_str().as_bytes(), target);
            for line in request.fields.lines() {
                let name = line.name;
                let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
                let is_rewritten = matches!(content_length, ContentLength::NonCanonical(_))
                    && is(CONTENT_LENGTH.as_str());
                if field_filter.passes(name) && !is_rewritten && !edits.replaces(name) {
                    line.write(out);
                }
            }
            edits.write(out);
            if let ContentLength::NonCanonical(length) = content_length {
                write_number_field(out, b"Content-Length", length);
            }
            if is_chunked {
                write_field(out, b"Transfer-Encoding", b"chunked");
            }
            write_head_end(out);
        };
        ctx.keep_wire_head(host, || {
            let mut head = Vec::new();
            write_head(&mut head);
            head
        });
        let proxied = self.proxied_attempt(ctx).filter(|_| needs_header);
        sender.start_attempt(self.client, |out| {
            if let Some(proxied) = proxied {
                out.extend_from_slice(&proxied.header());
            }
            write_head(out);
            Ok(())
        })
    }
}
