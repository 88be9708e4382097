//! The attempts of a request at hosts.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use http::StatusCode;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use tokio::time::Instant;

use super::buffer::Buffer;
use super::exchange::Exchange;
use super::hosts::{self, Host};
use super::outgoing::Additions;
use super::relay::{AnswerRoom, Relay, Relayed};
use super::tunnel::Tunnel;
use super::upload::Upload;
use crate::balancer::BalancerError;
use crate::config::HalfClose;
use crate::message::RequestView;
use crate::message::framing::Length;
use crate::message::write::{end, field, number_field, request_line};
use crate::proxy::attempt;
use crate::proxy::context::{NotLeased, RequestContext};
use crate::proxy::forwarded::Entrance;
use crate::proxy::outgoing::Outgoing;
use crate::proxy::passing_on::bare_target;
use crate::proxy::rules::Onward;

/// How a request went that was not refused.
pub(super) struct Outcome {
    pub(super) result: Result<Relayed>,
    /// The status that the client has begun to get.
    pub(super) status: Option<u16>,
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Outcome {
    pub(super) fn failed(error: Box<Error>) -> Self {
        Outcome {
            result: Err(error),
            status: None,
            sent: 0,
            received: 0,
        }
    }
}

impl Exchange<'_> {
    /// Leases a host for the next attempt. Waits in line while every host is full, as long as the client is there.
    pub(super) async fn lease(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
    ) -> Result<(), NotLeased> {
        match ctx.lease_at_once(request) {
            Err(BalancerError::Busy) if ctx.pool().has_room_in_line() => {
                let half_close = ctx.site.half_close;
                let client = &mut *self.client;
                let left = poll_fn(|context| client.poll_left(context, half_close));
                Box::pin(ctx.lease_in_turn(request, left)).await
            }
            leased => Ok(leased?),
        }
    }

    pub(super) async fn attempts(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
        (onward, said, keep): (&Onward<'_>, Length, bool),
        upload: &mut Upload,
        additions: &mut Additions,
        answer: &mut AnswerRoom,
    ) -> Outcome {
        loop {
            if ctx.lease.is_none() {
                match self.lease(ctx, request).await {
                    Ok(()) => {}
                    Err(NotLeased::Left(left)) => return Outcome::failed(left),
                    Err(NotLeased::Refused(_)) => {
                        let none = "no usable host is left for another attempt";
                        return Outcome::failed(Error::explain(ErrorType::HTTPStatus(503), none));
                    }
                }
            }
            let peer = match ctx.begin_at_host() {
                Ok(peer) => Arc::clone(peer),
                Err(error) => return Outcome::failed(error),
            };
            let (host, reused) = match hosts::take(&peer, Instant::from_std(ctx.started)) {
                Some(host) => (host, true),
                None => match self.connect(&peer, ctx.site.half_close).await {
                    Ok(host) => (host, false),
                    Err(error) if *error.esource() == ErrorSource::Downstream => {
                        ctx.left_while_connecting();
                        return Outcome::failed(error);
                    }
                    Err(error) if ctx.connect_failed(&error) => continue,
                    Err(error) => return Outcome::failed(error),
                },
            };
            ctx.connected(reused);
            if !reused && let Some(left) = self.client.has_left(ctx.site.half_close) {
                // The host never hears of it.
                return Outcome::failed(left);
            }
            let begun = self.begin(ctx, request, (onward, said), upload, additions);
            if let Err(error) = begun {
                return Outcome::failed(error);
            }
            let tls = self.peer.tls;
            let client = &mut *self.client;
            let host = (host, &*peer, self.engine.idle);
            let mut relay = Relay::new(request, tls, client, host, ctx, upload, answer, keep);
            let result = poll_fn(|context| relay.poll(context)).await;
            let (status, sent) = relay.told();
            let result = match (result, relay.into_tunnel()) {
                (Ok(_), Some(tunnel)) => {
                    return self.tunnel(ctx, tunnel).await;
                }
                (result, _) => result,
            };
            let error = match result {
                Ok(relayed) => {
                    return Outcome {
                        result: Ok(relayed),
                        status: status.map(|status| status.as_u16()),
                        sent,
                        received: 0,
                    };
                }
                Err(error) => error.more_context(format!("host {peer}")),
            };
            let progress = attempt::Progress {
                reused,
                sent: ctx.sent(request, upload.is_replayable(), status.is_some()),
                whole: upload.is_whole(),
                bodiless: upload.bodiless,
                stalled: self.client.stalled(),
            };
            if !ctx.attempt_failed(&error, request, progress) {
                return Outcome {
                    result: Err(error),
                    status: status.map(|status| status.as_u16()),
                    sent,
                    received: 0,
                };
            }
        }
    }

    /// Connects to a host as long as the client is there.
    async fn connect(&mut self, peer: &HttpPeer, half_close: HalfClose) -> Result<Host> {
        // Requests on kept connections, most of them, need not have room for it.
        let mut connecting = Box::pin(hosts::connect(&self.engine.connector, peer));
        poll_fn(|context| match connecting.as_mut().poll(context) {
            Poll::Ready(connected) => Poll::Ready(connected),
            Poll::Pending => self.client.poll_left(context, half_close).map(Err),
        })
        .await
    }

    /// The attempt has become a tunnel, which holds its place at the host until it ends.
    async fn tunnel(&mut self, ctx: &mut RequestContext, tunnel: (Host, Buffer)) -> Outcome {
        // It may last for hours, and is no retry any more.
        ctx.account = None;
        let tunnel = Tunnel::new(self.client, tunnel, ctx.site.timeouts);
        let ended = Box::pin(tunnel.run()).await;
        if let Err(error) = &ended.result {
            ctx.tunnel_failed(error);
        }
        let relayed = Relayed {
            keep: false,
            whole: true,
        };
        Outcome {
            result: ended.result.map(|()| relayed),
            status: Some(StatusCode::SWITCHING_PROTOCOLS.as_u16()),
            sent: ended.sent,
            received: ended.received,
        }
    }

    /// Puts the head of the request together for the host of the running attempt.
    fn begin(
        &mut self,
        ctx: &mut RequestContext,
        request: RequestView<'_>,
        (onward, said): (&Onward<'_>, Length),
        upload: &mut Upload,
        additions: &mut Additions,
    ) -> Result<()> {
        additions.clear();
        let bare = bare_target(request);
        let host = match &bare {
            Some((authority, _)) => {
                additions.set("Host", authority)?;
                Some(*authority)
            }
            None => request.get(&HOST),
        };
        let entrance = Entrance {
            tls: self.peer.tls,
            port: self.peer.port,
        };
        ctx.pass_on(request, host, entrance, additions)?;
        upload.begin(self.client, |out| {
            let target = bare.as_ref().map_or(request.target, |(_, target)| target);
            request_line(out, request.method.as_str().as_bytes(), target);
            for (name, value) in request.fields.iter() {
                let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
                let repeated = matches!(said, Length::Repeated(_)) && is(CONTENT_LENGTH.as_str());
                if onward.passes(name) && !repeated && !additions.replaces(name) {
                    field(out, name, value);
                }
            }
            additions.write(out);
            if let Length::Repeated(length) = said {
                number_field(out, b"Content-Length", length);
            }
            if request.fields.contains(&TRANSFER_ENCODING) {
                field(out, b"Transfer-Encoding", b"chunked");
            }
            end(out);
            Ok(())
        })
    }
}
