//! The phases of a request in Pingora's order.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::answer::{self, Answer, Connection};
use super::context::{Head, RequestContext};
use super::failure::{self, Break};
use super::forwarded::Origin;
use super::target::Target;
use super::{MAX_ATTEMPTS, Proxy, deadlines, rules, upgrade};
use crate::config::HostHeader;

const REQUEST_ID: &str = "x-request-id";

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new(self.site.load_full(), self.traffic.enter())
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {
        // Pingora's default is a compression module that is switched off, at a cost per request.
    }

    async fn early_request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        ctx.id = session.req_header().headers.get(REQUEST_ID).cloned();
        if ctx.presence.is_draining() {
            session.set_keepalive(None);
        } else if session.get_keepalive().is_some() {
            // Pingora gives every request after a connection's first one unlimited time to arrive.
            session.set_keepalive(Some(whole_seconds(ctx.site.timeouts.client_keepalive)));
        }
        session.set_read_timeout(Some(ctx.site.timeouts.read));
        deadlines::head_is_read(session, ctx);
        session.set_total_drain_timeout(Some(answer::LINGER));
        // A client may close its sending side once it has sent its request, or send the next one meanwhile.
        session.set_abort_on_close(false);
        session.set_pipelining_enabled(true);
        if session.req_header().version == Version::HTTP_10 {
            session.set_ignore_info_resp(true);
        }
        Ok(())
    }

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        if rules::refuse(session, &ctx.site).await? {
            return Ok(true);
        }
        if let Some(limit) = ctx.site.limits.max_in_flight
            && !ctx.presence.admit(limit)
        {
            answer::send(session, Answer::OVERLOADED, Connection::Keep).await?;
            return Ok(true);
        }
        let request = session.req_header();
        ctx.origin = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(|peer| Origin::new(peer.ip(), &request.headers, &ctx.site.trusted_proxies));
        let refused = self.refuse_early(request, ctx);
        let target = Target::of(request);
        let refusal = match ctx.site.router.find(target.authority, target.path()) {
            _ if refused.is_some() => refused,
            Some(route) => {
                ctx.pool = ctx.site.routes[route].pool;
                self.refuse(route, request, ctx)
            }
            None => Some(Answer::NO_ROUTE),
        };
        if let Some(answer) = refusal {
            answer::send(session, answer, Connection::Keep).await?;
        }
        Ok(refusal.is_some())
    }

    // The first host is leased here and not in `upstream_peer`, because an error there costs the client its connection.
    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        if ctx.lease_host(session).is_ok() {
            return Ok(true);
        }
        answer::send(session, Answer::NO_HOST, Connection::Keep).await?;
        Ok(false)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        if ctx.lease.is_none() && ctx.lease_host(session).is_err() {
            return Err(Error::explain(
                ErrorType::HTTPStatus(503),
                "no usable host is left for another attempt",
            ));
        }
        ctx.attempts += 1;
        ctx.started = Instant::now();
        ctx.head = None;
        ctx.body = 0;
        let lease = ctx.lease.as_ref();
        let host = lease.expect("leased above").host();
        if ctx.tried.contains(host.id()) {
            ctx.lease = None;
            return Err(Error::explain(
                ErrorType::HTTPStatus(502),
                "every usable host has failed this request",
            ));
        }
        let member = ctx.pool().member(host.id());
        let member = member.expect("a pool's balancers know its members only");
        let mut peer = Box::new(member.peer().clone());
        if asks_for_websocket(session.req_header()) {
            // Pingora has one read timeout for the handshake and the tunnel after it; `deadlines` has one for the former.
            peer.options.read_timeout = Some(ctx.site.timeouts.tunnel);
            upgrade::prepare(&mut peer);
        }
        Ok(peer)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        exclude_host(ctx);
        ctx.fail();
        // Nothing was sent, so the method does not matter.
        error.set_retry(ctx.attempts < MAX_ATTEMPTS && ctx.pool().has_another(&ctx.tried));
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let target = Target::of(request);
        if target.absolute {
            // What a server gets is the origin-form, and the authority as Host.
            let authority = HeaderValue::from_bytes(target.authority).map_err(|cause| {
                Error::because(ErrorType::InvalidHTTPHeader, "authority", cause).into_down()
            })?;
            let uri = target.without_authority(&request.method).into_owned();
            request.insert_header(header::HOST, authority)?;
            request.set_raw_path(&uri)?;
        }
        if session.is_body_done() || asks_for_websocket(session.req_header()) {
            deadlines::expect_answer(session, ctx);
        }
        rules::forward(session.req_header(), request, ctx.site.via.as_ref())?;
        if let Some(origin) = ctx.origin {
            let tls = session.digest().is_some_and(|d| d.ssl_digest.is_some());
            origin.describe(request, tls)?;
        }
        if !request.headers.contains_key(REQUEST_ID) {
            let id = ctx.id.get_or_insert_with(new_request_id).clone();
            request.insert_header("X-Request-Id", id)?;
        }
        let hostless = !request.headers.contains_key(header::HOST);
        if (hostless || ctx.pool().host_header() == HostHeader::Upstream)
            && let Some(lease) = &ctx.lease
            && let Some(member) = ctx.pool().member(lease.host().id())
        {
            request.insert_header(header::HOST, member.host_header().clone())?;
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        deadlines::body_came(session, ctx)?;
        if let Some(more) = body.as_ref().filter(|_| !session.was_upgraded()) {
            rules::body_grew(&mut ctx.body, more.len(), ctx.site.limits.body)?;
        }
        // A client that uploads slowly does not make the host slow.
        if end_of_stream && ctx.head.is_none() && !session.is_body_empty() {
            ctx.started = Instant::now();
            deadlines::expect_answer(session, ctx);
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        rules::pass_back(response, &ctx.site.limits, ctx.site.via.as_ref())?;
        let upgraded = response.status == StatusCode::SWITCHING_PROTOCOLS;
        if response.status.is_informational() && !upgraded {
            return Ok(());
        }
        deadlines::answered(session);
        if upgraded && !asks_for_websocket(session.req_header()) {
            // Passed on, the host's next bytes would be taken for an answer to the client's next request.
            let unasked = "the host switched protocols unasked";
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, unasked).into_up());
        }
        ctx.head = Some(Head {
            after: ctx.started.elapsed(),
            good: !response.status.is_server_error(),
        });
        if upgraded {
            session.set_read_timeout(Some(ctx.site.timeouts.tunnel));
        }
        if ctx.presence.is_draining() {
            session.set_keepalive(None);
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        _ctx: &mut RequestContext,
    ) -> Result<()> {
        rules::suit_client(session, response);
        Ok(())
    }

    // Replaces Pingora's version, whose guards stand in `Break::may_resend`; `set_retry` decides what it leaves open.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut RequestContext,
        reused: bool,
    ) -> Box<Error> {
        let mut error = deadlines::blame(session, error).more_context(format!("host {peer}"));
        if *error.esource() == ErrorSource::Upstream
            && *error.etype() == ErrorType::ReadTimedout
            && !session.is_body_done()
        {
            // The host's time to answer ran while the client owed it the rest of the request.
            error.as_down();
        }
        if *error.esource() != ErrorSource::Upstream {
            error.set_retry(false);
            ctx.lease = None;
            return error;
        }
        let broken = Break {
            idempotent: session.req_header().method.is_idempotent(),
            replayable: !session.as_ref().retry_buffer_truncated(),
            answered: ctx.head.is_some(),
            written: session.response_written().is_some(),
        };
        let again = ctx.attempts < MAX_ATTEMPTS && broken.may_resend(&error) && {
            exclude_host(ctx);
            // A host may close an idle connection at any time, which says nothing against a fresh one to it.
            let elsewhere = ctx.pool().has_another(&ctx.tried);
            if !elsewhere && reused {
                ctx.tried.pop();
            }
            elsewhere || reused
        };
        ctx.fail();
        error.set_retry(again);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestContext,
    ) -> FailToProxy {
        ctx.lease = None;
        let status = failure::status(error);
        // A client at fault for the error gets no more time, but for the answer to a body that is too large.
        let linger = *error.esource() != ErrorSource::Downstream || status == Some(413);
        if let Some(status) = status
            && let Err(error) = answer::send_last(session, Answer::to_failure(status), linger).await
        {
            log::debug!("the answer {status} did not reach the client: {error}");
        }
        FailToProxy {
            error_code: status.unwrap_or(0),
            can_reuse_downstream: false,
        }
    }

    async fn logging(
        &self,
        _session: &mut Session,
        error: Option<&Error>,
        ctx: &mut RequestContext,
    ) {
        match error {
            None => ctx.finish(),
            Some(_) => ctx.lease = None,
        }
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &RequestContext, error: &Error) -> bool {
        // Clients come and go.
        *error.esource() == ErrorSource::Downstream
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &RequestContext,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        // The client notices nothing of an attempt that is followed by another, and a host that is down would fill the
        // log until its health check says so in one line.
        true
    }
}

/// Notes that the host of the running attempt failed this request.
fn exclude_host(ctx: &mut RequestContext) {
    if let Some(lease) = &ctx.lease {
        ctx.tried.push(lease.host().id().clone());
    }
}

/// The condition under which Pingora passes an upgrade on.
fn asks_for_websocket(request: &RequestHeader) -> bool {
    request.version == Version::HTTP_11
        && request
            .headers
            .get(header::UPGRADE)
            .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// 128 random bits in hexadecimal.
fn new_request_id() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bits: u128 = rand::random();
    let id = [(); 32].map(|()| {
        let digit = DIGITS[(bits & 0xf) as usize];
        bits >>= 4;
        digit
    });
    HeaderValue::from_bytes(&id).expect("hexadecimal digits are visible characters")
}

/// Pingora's keep-alive timeout is in seconds, and 0 would mean for ever.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
