//! The phases of a request in Pingora's order.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::answer::{self, Answer, Connection, whole_seconds};
use super::client;
use super::context::{Head, NotLeased, RequestContext};
use super::failure::{self, is_break};
use super::forwarded::{Entrance, Origin};
use super::sticky;
use super::target::Target;
use super::{Proxy, deadlines, is_over_tls, rules, trace, upgrade};
use crate::balancer::BalancerError;
use crate::config::{HalfClose, HostHeader};
use crate::pool::{Failure, lacks_resources};
use crate::record::{Ending, Reason, hexadecimal, random};

/// A host whose answer a client has not read for so long in all may have given it up for that.
const PATIENCE: Duration = Duration::from_secs(1);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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
        let fields = &session.req_header().headers;
        ctx.id = fields.get(REQUEST_ID).cloned();
        ctx.origin = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(|peer| Origin::new(peer.ip(), fields, &ctx.site.trusted_proxies));
        let trusted = ctx.origin.is_some_and(|origin| origin.trusted);
        let sampling = ctx.site.sampling;
        ctx.trace = sampling.map(|sampling| trace::of(fields, sampling, trusted));
        if ctx.presence.is_draining() {
            session.set_keepalive(None);
        } else if session.get_keepalive().is_some() {
            // Pingora gives every request after a connection's first one unlimited time to arrive.
            // In seconds, and 0 would mean for ever.
            session.set_keepalive(Some(whole_seconds(ctx.site.timeouts.client_keepalive)));
        }
        session.set_read_timeout(Some(ctx.site.timeouts.read));
        deadlines::head_is_read(session, ctx);
        session.set_total_drain_timeout(Some(answer::LINGER));
        session.set_abort_on_close(ctx.site.half_close == HalfClose::Abort);
        // A client may send its next request meanwhile.
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
        if let Some(ending) = rules::refuse(session, &ctx.site).await? {
            ctx.refused = Some(ending);
            return Ok(true);
        }
        let trusted = ctx.origin.is_some_and(|origin| origin.trusted);
        rules::clean(session.req_header_mut(), &ctx.site, trusted);
        if !ctx.presence.admit(ctx.site.limits.max_in_flight) {
            answer::send(session, Answer::OVERLOADED, Connection::Keep).await?;
            ctx.refused = Some(Ending::Overloaded);
            return Ok(true);
        }
        let request = session.req_header();
        let refusal = self.refuse(request, ctx);
        if let Some(answer) = refusal {
            answer::send(session, answer, Connection::Keep).await?;
            ctx.refused = Some(answer.ending());
        }
        Ok(refusal.is_some())
    }

    // The first host is leased here and not in `upstream_peer`, because an error there costs the client its connection.
    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        let answer = match ctx.lease_host(session).await {
            Ok(()) => return Ok(true),
            Err(NotLeased::Left(left)) => return Err(left),
            Err(NotLeased::Refused(BalancerError::Busy)) => Answer::QUEUE_FULL,
            Err(NotLeased::Refused(_)) => Answer::NO_HOST,
        };
        answer::send(session, answer, Connection::Keep).await?;
        ctx.refused = Some(answer.ending());
        Ok(false)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        if ctx.lease.is_none() {
            match ctx.lease_host(session).await {
                Ok(()) => {}
                Err(NotLeased::Left(left)) => return Err(left),
                Err(NotLeased::Refused(_)) => {
                    return Err(Error::explain(
                        ErrorType::HTTPStatus(503),
                        "no usable host is left for another attempt",
                    ));
                }
            }
        }
        let lease = ctx.lease.as_ref();
        let member = lease.expect("leased above").member();
        if ctx.tried.contains(member.host().id()) {
            ctx.lease = None;
            return Err(Error::explain(
                ErrorType::HTTPStatus(502),
                "every usable host has failed this request",
            ));
        }
        let mut peer = Box::new(member.peer().clone());
        ctx.begin_attempt();
        if rules::asks_for_websocket(session.req_header()) {
            // Pingora has one read timeout for the handshake and the tunnel after it; `deadlines` has one for the former.
            peer.options.read_timeout = Some(ctx.site.timeouts.tunnel);
            upgrade::prepare(&mut peer, client::lend(session.as_downstream_mut()));
        } else if let Some(gate) = client::lend(session.as_downstream_mut()) {
            peer.options.custom_l4 = Some(gate);
        }
        Ok(peer)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if client::has_left(session.as_downstream_mut()).is_some() {
            // Pingora makes the error the host's, whatever is said of it here.
            ctx.left = true;
            ctx.end_attempt(Reason::Client);
            ctx.lease = None;
            error.set_retry(false);
            return error;
        }
        exclude_host(ctx);
        if lacks_resources(&error) {
            ctx.end_attempt(Reason::Resources);
            ctx.lease = None;
        }
        ctx.fail(Failure::Connect);
        // Nothing was sent, so neither the method nor the budget matters.
        error.set_retry(ctx.has_another_attempt() && ctx.pool().has_another(&ctx.tried));
        error
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if let Some(attempt) = ctx.attempts.last_mut() {
            attempt.connected = Some(attempt.began.elapsed());
            attempt.reused = reused;
        }
        if !reused {
            ctx.client_was_not_asked(ctx.started.elapsed());
            // The host never hears of it.
            if let Some(left) = client::has_left(session.as_downstream_mut()) {
                return Err(left);
            }
        }
        Ok(())
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
        if session.is_body_done() || rules::asks_for_websocket(session.req_header()) {
            deadlines::expect_answer(session, ctx);
        }
        rules::forward(session.req_header(), request, ctx.site.via.as_ref())?;
        if let Some(origin) = ctx.origin {
            let port = session.server_addr().and_then(|address| address.as_inet());
            let entrance = Entrance {
                tls: is_over_tls(session),
                port: port.map(|address| address.port()),
            };
            origin.describe(request, entrance)?;
        }
        if !request.headers.contains_key(REQUEST_ID) {
            let id = ctx.id.get_or_insert_with(new_request_id).clone();
            request.insert_header("X-Request-Id", id)?;
        }
        trace::pass_on(request, ctx.trace.as_ref(), ctx.attempts.last())?;
        let hostless = !request.headers.contains_key(header::HOST);
        if (hostless || ctx.pool().host_header() == HostHeader::Upstream)
            && let Some(lease) = &ctx.lease
        {
            request.insert_header(header::HOST, lease.member().host_header().clone())?;
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
        let asked = rules::asks_for_websocket(session.req_header());
        if upgraded && !asked {
            // Passed on, the host's next bytes would be taken for an answer to the client's next request.
            let unasked = "the host switched protocols unasked";
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, unasked).into_up());
        }
        if asked && !upgraded {
            // The connection to the host has the time of a tunnel, which the rest of this answer does not get.
            ctx.upgrade_refused = true;
            deadlines::expect_answer(session, ctx);
        }
        let outcome = ctx.pool().outcome_of(response.status.as_u16());
        ctx.head = Some(Head {
            after: ctx.started.elapsed(),
            outcome,
        });
        if let Some(attempt) = ctx.attempts.last_mut() {
            attempt.answered = Some(attempt.began.elapsed());
            attempt.status = Some(response.status.as_u16());
        }
        if let Some(lease) = &mut ctx.lease {
            lease.answered(outcome);
        }
        if ctx.is_failure(response.status) && give_up(session, ctx) {
            // Nothing of the answer has left the filters, and the connection that its rest is on will be closed.
            let status = ErrorType::HTTPStatus(response.status.as_u16());
            return Err(Error::explain(status, "another host is asked").into_up());
        }
        sticky::keep(session, response, ctx)?;
        if upgraded {
            deadlines::upgraded(session, ctx);
            // A tunnel may last for hours, and is no retry any more.
            ctx.account = None;
        }
        if ctx.presence.is_draining() {
            session.set_keepalive(None);
        }
        if rules::is_empty(response) {
            deadlines::host_is_done(session);
        }
        Ok(())
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        if end_of_stream {
            deadlines::host_is_done(session);
        } else if ctx.upgrade_refused {
            deadlines::expect_answer(session, ctx);
        }
        Ok(None)
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

    // Replaces Pingora's version, whose guards stand in `Sent::may_go_again`; `set_retry` decides what it leaves open.
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
            ctx.end_attempt(match error.esource() {
                ErrorSource::Downstream => Reason::Client,
                _ => Reason::Internal,
            });
            error.set_retry(false);
            ctx.lease = None;
            return error;
        }
        if let Some(next) = ctx.next.take() {
            ctx.finish();
            ctx.lease = Some(next);
            error.set_retry(true);
            return error;
        }
        let again = ctx.has_another_attempt()
            && is_break(&error)
            && ctx.head.is_none()
            && ctx.sent(session).may_go_again()
            && {
                exclude_host(ctx);
                // A host may close an idle connection at any time, which says nothing against a fresh one to it.
                let elsewhere = ctx.pool().has_another(&ctx.tried);
                if !elsewhere && reused {
                    ctx.tried.pop();
                }
                elsewhere || reused
            }
            && ctx.pay_for_retry();
        let failure = failure::of_host(&error);
        if reused && failure == Failure::Reset && ctx.head.is_none() {
            // As above: not the host's failure.
            ctx.end_attempt(Reason::Stale);
            ctx.lease = None;
        } else if is_of_request(session, &error, failure) {
            ctx.end_attempt(Reason::Failed(failure));
            ctx.lease = None;
        }
        ctx.fail(failure);
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
        let status = failure::status(error).filter(|_| !ctx.left);
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
        session: &mut Session,
        error: Option<&Error>,
        ctx: &mut RequestContext,
    ) {
        match error {
            None => ctx.finish(),
            Some(_) => ctx.lease = None,
        }
        ctx.account = None;
        ctx.tell(Some(session), error);
    }

    fn suppress_error_log(&self, _session: &Session, ctx: &RequestContext, error: &Error) -> bool {
        // Clients come and go.
        ctx.left || *error.esource() == ErrorSource::Downstream
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

/// Whether the client may have brought the failure about by what it asked for, or how. A host is not blamed for it then.
fn is_of_request(session: &mut Session, error: &Error, failure: Failure) -> bool {
    let whole = session.is_body_done();
    // A host may refuse an upload by closing the connection.
    let cut = failure == Failure::Reset
        && (!whole || *error.etype() == ErrorType::WriteError && !session.is_body_empty());
    let unread = failure == Failure::Reset
        && session.response_written().is_some()
        && client::stalled(session.as_downstream()) >= PATIENCE;
    cut || unread || !failure::is_ordinary(session.req_header())
}

/// Notes that the host of the running attempt failed this request.
fn exclude_host(ctx: &mut RequestContext) {
    if let Some(lease) = &ctx.lease {
        ctx.tried.push(lease.member().host().id().clone());
    }
}

/// Gives the running attempt up for another one at another host, if that may be.
fn give_up(session: &Session, ctx: &mut RequestContext) -> bool {
    if !(ctx.has_another_attempt() && ctx.sent(session).may_go_again()) {
        return false;
    }
    exclude_host(ctx);
    let again = ctx.lease_another(session.req_header()) && ctx.pay_for_retry();
    if !again {
        ctx.next = None;
    }
    again
}

/// 128 random bits in hexadecimal.
fn new_request_id() -> HeaderValue {
    HeaderValue::from_bytes(&hexadecimal(random()))
        .expect("hexadecimal digits are visible characters")
}
