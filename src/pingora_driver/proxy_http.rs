//! The phases of a request, in the order in which Pingora calls them.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::{
    client, connection, deadlines, header_rules, host_connector, is_over_tls, local_address,
    proxied, respond, upstream_filters, verification,
};
use crate::config::HalfClose;
use crate::host_tls::{LOW_TLS_VERSION, check_version};
use crate::proxy::attempt::AttemptProgress;
use crate::proxy::completion::Transferred;
use crate::proxy::context::{LeaseError, RequestContext};
use crate::proxy::forwarding::x_forwarded::ConnectionInfo;
use crate::proxy::local_message::{LocalMessage, Persistence};
use crate::proxy::local_response::{LINGER, LocalResponse, ceil_seconds};
use crate::proxy::{Proxy, http_rules};
use crate::proxy::{failure, grpc};
use ballast_balancer::BalancerError;

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new(
            self.active.load_full(),
            self.traffic.enter(),
            Instant::now(),
        )
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {
        // By default Pingora adds a compression module that is switched off but costs time for every request.
    }

    async fn early_request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        let peer = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(|peer| peer.ip());
        ctx.identify(session.req_header().into(), peer);
        if ctx.in_flight.is_draining() {
            session.set_keepalive(None);
        } else if session.get_keepalive().is_some() {
            // Without this, Pingora waits without limit for each request after the first one on a connection. The unit
            // is seconds, and 0 would mean no limit.
            session.set_keepalive(Some(ceil_seconds(ctx.active.timeouts.client_keepalive)));
        }
        deadlines::set_timeouts(session, ctx);
        deadlines::note_request_head(session, ctx);
        session.set_total_drain_timeout(Some(LINGER));
        session.set_abort_on_close(ctx.active.half_close == HalfClose::Abort);
        // The client may send its next request before this one is complete.
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
        if let Some(termination) = header_rules::check_request(session, ctx).await? {
            ctx.refused = Some(termination);
            return Ok(true);
        }
        http_rules::drop_fields(session.req_header_mut(), &ctx.active, ctx.is_trusted());
        if !ctx.in_flight.admit(ctx.active.limits.max_in_flight) {
            let response = LocalResponse::OVERLOADED.into();
            send(session, ctx, response).await?;
            return Ok(true);
        }
        let client = connection(session);
        let mut response = self.admit(session.req_header().into(), client, ctx);
        if response.is_none() && ctx.needs_authentication() {
            // The session itself is borrowed for the disconnect watch.
            let request = session.req_header().clone();
            let verification = verification(session).cloned();
            let proxied = proxied(session).cloned();
            let local = session.server_addr().cloned();
            let connection = ConnectionInfo {
                tls: client.tls,
                local: local.as_ref().and_then(local_address),
                verification: verification.as_ref(),
                proxied: proxied.as_ref(),
            };
            let disconnect = client::wait_for_disconnect(session.as_downstream_mut());
            response = self
                .authenticate((&request).into(), connection, ctx, disconnect)
                .await?;
        }
        let respond = || {
            let connection = connection(session);
            self.respond(session.req_header().into(), connection, ctx)
        };
        let response = response.or_else(respond);
        deadlines::set_timeouts(session, ctx);
        let responds = response.is_some();
        if let Some(response) = response {
            send(session, ctx, response).await?;
        }
        Ok(responds)
    }

    // The first host is leased here and not in `upstream_peer`, because an error there closes the client's connection.
    async fn proxy_upstream_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<bool> {
        let response = match lease_host(session, ctx).await {
            Ok(()) => return Ok(true),
            Err(LeaseError::ClientLeft(error)) => return Err(error),
            Err(LeaseError::Refused(BalancerError::Busy)) => LocalResponse::QUEUE_FULL,
            Err(LeaseError::Refused(_)) => LocalResponse::NO_HOST,
        };
        send(session, ctx, response.into()).await?;
        Ok(false)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> Result<Box<HttpPeer>> {
        if ctx.lease.is_none() {
            match lease_host(session, ctx).await {
                Ok(()) => {}
                Err(LeaseError::ClientLeft(error)) => return Err(error),
                Err(LeaseError::Refused(_)) => {
                    return Err(Error::explain(
                        ErrorType::HTTPStatus(503),
                        "no host is left for another attempt",
                    ));
                }
            }
        }
        let mut peer = Box::new(HttpPeer::clone(ctx.begin_at_host()?));
        let left = ctx.time_left();
        if left.is_some_and(|left| left.is_zero()) {
            return Err(grpc::deadline_error());
        }
        let timeouts = ctx.timeouts();
        let connect = left.map_or(timeouts.connect, |left| left.min(timeouts.connect));
        let options = &mut peer.options;
        options.connection_timeout = Some(connect);
        options.total_connection_timeout = Some(connect);
        options.read_timeout = Some(timeouts.read);
        options.write_timeout = Some(timeouts.write);
        if deadlines::are_own(session, ctx) {
            options.read_timeout = Some(timeouts.tunnel);
        }
        // Pingora cannot ask hosts of HTTP/2 for tunnels, and sends chunks for their responses without a length.
        let needs_http1 = ctx.upgrade.is_some() || session.req_header().version == Version::HTTP_10;
        if needs_http1 {
            options.set_http_version(1, 1);
        }
        host_connector::prepare(&mut peer, session, ctx, needs_http1);
        Ok(peer)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if ctx.time_left().is_some_and(|left| left.is_zero()) {
            ctx.deadline_passed();
            return grpc::deadline_error();
        }
        if client::check_disconnect(session.as_downstream_mut()).is_some() {
            ctx.client_left_while_connecting();
            error.set_retry(false);
            return error;
        }
        let retries = ctx.connect_failed(&error);
        error.set_retry(retries);
        error
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        digest: Option<&Digest>,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        if let Some(tls) = ctx.lease.as_ref().and_then(|lease| lease.member().tls()) {
            let digest = digest.and_then(|digest| digest.ssl_digest.as_deref());
            check_version(tls.min_version(), digest).map_err(Error::into_up)?;
        }
        ctx.connected(reused);
        if !reused && let Some(error) = client::check_disconnect(session.as_downstream_mut()) {
            // The request never reaches the host.
            return Err(error);
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        upstream_filters::filter_request(session, request, ctx)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        deadlines::check_body_rate(session, ctx)?;
        if let Some(more) = body.as_ref().filter(|_| !session.was_upgraded()) {
            let limit = ctx.limits().body;
            http_rules::count_body_bytes(&mut ctx.body_bytes, more.len(), limit)?;
        }
        if end_of_stream && ctx.copy.is_some() {
            let is_kept = !session.as_ref().retry_buffer_truncated();
            let body = is_kept.then(|| session.as_ref().get_retry_buffer().unwrap_or_default());
            ctx.send_copy(body);
        }
        // The latency of the host starts only after a slow upload has ended.
        if end_of_stream && !session.is_body_empty() {
            if ctx.host_response.is_none() {
                ctx.attempt_started = Instant::now();
            }
            if ctx.host_response.is_none() || ctx.has_response_deadline {
                deadlines::set_response_deadline(session, ctx);
            }
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> Result<()> {
        upstream_filters::filter_response(session, response, ctx)
    }

    fn upstream_response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        if end_of_stream {
            deadlines::note_response_end(session);
        } else if ctx.has_response_deadline {
            deadlines::set_response_deadline(session, ctx);
        }
        Ok(None)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        _ctx: &mut RequestContext,
    ) -> Result<()> {
        header_rules::adapt_to_client_version(session, response);
        Ok(())
    }

    // Hosts of HTTP/2 may end a body by trailers: see `response_trailer_filter`.
    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> Result<Option<Duration>> {
        if ctx.compressor.is_some() {
            upstream_filters::compress_body(body, end_of_stream, ctx)?;
        }
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut HeaderMap,
        ctx: &mut RequestContext,
    ) -> Result<Option<Bytes>> {
        ctx.trailers_received(trailers);
        http_rules::drop_trailers(trailers);
        let mut rest = None;
        if ctx.compressor.is_some() {
            upstream_filters::compress_body(&mut rest, true, ctx)?;
        }
        Ok(rest)
    }

    // Replaces Pingora's implementation. `SentRequest::can_resend` has the guards of the original.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut RequestContext,
        reused: bool,
    ) -> Box<Error> {
        let mut error =
            deadlines::attribute_error(session, error).more_context(format!("host {peer}"));
        if *error.esource() == ErrorSource::Upstream
            && *error.etype() == ErrorType::ReadTimedout
            && !session.is_body_done()
            && !client::has_ended_tunnel(session.as_downstream())
        {
            // The host's deadline expired because the client had not sent the rest of the request.
            error.as_down();
        }
        if let (ErrorType::H2Downgrade | ErrorType::InvalidH2, Some(lease)) =
            (error.etype(), &ctx.lease)
        {
            lease.member().prefer_http1();
        }
        if *error.etype() == LOW_TLS_VERSION {
            // The host has received nothing.
            let retries = ctx.connect_failed(&error);
            error.set_retry(retries);
            return error;
        }
        let progress = AttemptProgress {
            reused,
            sent: upstream_filters::sent_request(session, ctx),
            is_request_complete: session.is_body_done(),
            is_bodiless: session.is_body_empty(),
            write_wait: client::write_wait(session.as_downstream()),
        };
        let retries = ctx.attempt_failed(&error, session.req_header().into(), progress);
        error.set_retry(retries);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestContext,
    ) -> FailToProxy {
        ctx.lease = None;
        let status = failure::status_for(error).filter(|_| !ctx.has_client_left);
        // A client that caused the error gets no further time, except to read the response to a body that is too large.
        let linger = *error.esource() != ErrorSource::Downstream || status == Some(413);
        if let Some(status) = status {
            let mut response = LocalMessage::from(LocalResponse::for_status(status));
            let tls = is_over_tls(session);
            ctx.edit_local(&mut response, session.req_header().into(), tls);
            if let Err(error) = respond::send_and_close(session, &response, linger).await {
                log::debug!("the response with status {status} did not reach the client: {error}");
            }
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
            None => ctx.finish_attempt(),
            Some(_) => ctx.lease = None,
        }
        ctx.retry_handle = None;
        let status = session.response_written().map(|head| head.status);
        let is_final = |status: &StatusCode| {
            !status.is_informational() || *status == StatusCode::SWITCHING_PROTOCOLS
        };
        let passed = Transferred {
            request: session.req_header().into(),
            tls: is_over_tls(session),
            status: status.filter(is_final).map(|status| status.as_u16()),
            received: session.body_bytes_read() as u64,
            sent: session.body_bytes_sent() as u64,
        };
        ctx.report(Some(passed), error);
    }

    fn suppress_error_log(&self, _session: &Session, ctx: &RequestContext, error: &Error) -> bool {
        // Disconnects are normal.
        ctx.has_client_left || *error.esource() == ErrorSource::Downstream
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &RequestContext,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        // The client does not see an attempt that is retried, and a host that is down would fill the log until its
        // health check reports it in one line.
        true
    }
}

/// Sends a response of the proxy's own instead of a host's.
async fn send(
    session: &mut Session,
    ctx: &mut RequestContext,
    mut response: Box<LocalMessage>,
) -> Result<()> {
    let tls = is_over_tls(session);
    ctx.edit_local(&mut response, session.req_header().into(), tls);
    match response.persistence() {
        Persistence::KeepAlive => {
            respond::send(session, &response, Persistence::KeepAlive).await?;
        }
        Persistence::Close => respond::send_and_close(session, &response, true).await?,
    }
    ctx.refused = Some(response.termination());
    Ok(())
}

/// Leases a host for the next attempt. Waits in the queue while every host is at its limit and the client stays
/// connected.
async fn lease_host(session: &mut Session, ctx: &mut RequestContext) -> Result<(), LeaseError> {
    match ctx.try_lease(session.req_header().into()) {
        Err(BalancerError::Busy) if ctx.pool().has_queue_room() => {
            // The session itself is borrowed for the disconnect watch.
            let request = session.req_header().clone();
            let disconnect = client::wait_for_disconnect(session.as_downstream_mut());
            ctx.lease_queued((&request).into(), disconnect).await
        }
        leased => Ok(leased?),
    }
}
