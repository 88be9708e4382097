//! The filters between the client and a host: the request on its way to the host, and the head of the host's response
//! on its way to the client.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::{connection, deadlines, header_rules, is_over_tls};
use crate::config::Protocol;
use crate::message::{RequestView, framing};
use crate::proxy::compression::ResponseFacts;
use crate::proxy::context::RequestContext;
use crate::proxy::failure::SentRequest;
use crate::proxy::forwarding::header_editor::HeaderEditor;
use crate::proxy::forwarding::upstream_request::split_absolute_target;
use crate::proxy::http_rules;
use crate::proxy::selection::sticky;

/// Prepares a request for the host of the running attempt.
pub(super) fn filter_request(
    session: &mut Session,
    request: &mut RequestHeader,
    ctx: &mut RequestContext,
) -> Result<()> {
    let bare = split_absolute_target((&*request).into())
        .map(|(authority, target)| (authority.to_vec(), target.into_owned()));
    if let Some((authority, target)) = bare {
        // A server gets the target in origin-form and the authority in Host.
        let host = request.set("Host", &authority);
        host.map_err(|error| error.into_down())?;
        request.set_raw_path(&target)?;
    }
    if request.version == Version::HTTP_2
        && let Some(authority) = request.uri.authority().cloned()
    {
        // For HTTP/1.1 Pingora does this itself.
        request.insert_header(header::HOST, authority.as_str())?;
    }
    if ctx.upgrade.is_none() && request.headers.contains_key(header::UPGRADE) {
        // Pingora treats any request with an Upgrade field as an upgrade, whatever Connection says.
        request.remove_header(&header::UPGRADE);
        request.remove_header(&header::CONNECTION);
    }
    if session.is_body_done() {
        deadlines::set_response_deadline(session, ctx);
    }
    if request.version == Version::HTTP_2 {
        let te = RequestView::from(session.req_header()).fields;
        if framing::has_option(te.get_all(&header::TE), b"trailers") {
            // Pingora removes it, and some gRPC servers insist on it.
            request.insert_header(header::TE, "trailers")?;
        }
    } else if ctx.pool().protocol() == Protocol::Http2 {
        let other = "the host has not chosen HTTP/2 in the TLS handshake";
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, other).into_up());
    }
    let connection = connection(session);
    let host = request.headers.get(header::HOST).cloned();
    let host = host.as_ref().map(HeaderValue::as_bytes);
    let received = RequestView::from(session.req_header());
    ctx.set_upstream_fields(received, host, connection, request)?;
    if let Some(route) = ctx.request_edits(received, connection.tls) {
        route.edit_request(request)?;
        if let Some(target) = route.target(request.raw_path()) {
            request.set_raw_path(&target)?;
        }
    }
    ctx.keep_parsed_head(host, request);
    Ok(())
}

/// Prepares the head of a host's response for the client, and records it in `ctx`.
///
/// # Errors
/// If the response must not be forwarded, or the request is retried instead.
pub(super) fn filter_response(
    session: &mut Session,
    response: &mut ResponseHeader,
    ctx: &mut RequestContext,
) -> Result<()> {
    let (upgrade, active) = (ctx.upgrade.as_deref(), &ctx.active);
    header_rules::filter_response(response, upgrade, &active.limits, active.via.as_ref())?;
    let upgraded = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if response.status.is_informational() && !upgraded {
        return Ok(());
    }
    deadlines::clear_response_deadline(session);
    if upgraded && !session.is_body_done() {
        // The host would take the rest of the request for bytes of the new protocol.
        let early = "the host switched protocols before the request was complete";
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, early).into_up());
    }
    let request = session.req_header();
    if upgraded
        && request.version == Version::HTTP_2
        && !http_rules::is_websocket_accepted((&request.headers).into(), (&response.headers).into())
    {
        // The client gets no Sec-WebSocket-Accept that it could check.
        let wrong = "the host's Sec-WebSocket-Accept is missing or wrong";
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, wrong).into_up());
    }
    if deadlines::are_own(session, ctx) && !upgraded {
        ctx.has_response_deadline = true;
        deadlines::set_response_deadline(session, ctx);
    }
    let judged = ctx.judged_status(response.status, &response.headers);
    ctx.response_head_received(response.status.as_u16(), judged.as_u16());
    let sent = sent_request(session, ctx);
    if ctx.is_retryable_status(judged) && ctx.abandon_attempt(session.req_header().into(), sent) {
        // The response has not left the filters, and the connection that carries the rest of it will be closed.
        let status = ErrorType::HTTPStatus(response.status.as_u16());
        return Err(Error::explain(status, "the request is retried on another host").into_up());
    }
    let request = session.req_header().into();
    let cookie = sticky::set_cookie(request, is_over_tls(session), ctx);
    if !upgraded && let Some(route) = ctx.response_edits(request, is_over_tls(session)) {
        header_rules::edit_response(response, &route)?;
    }
    if let Some(cookie) = cookie {
        response.append("Set-Cookie", cookie.as_bytes())?;
    }
    let facts = ResponseFacts {
        status: response.status,
        length: http_rules::announced_length((&response.headers).into()),
    };
    ctx.compressor = ctx.compress_response(request, facts, response)?;
    if upgraded {
        deadlines::begin_tunnel(session, ctx);
        ctx.begin_tunnel();
    }
    if ctx.in_flight.is_draining() {
        session.set_keepalive(None);
    }
    if http_rules::has_empty_body((&response.headers).into()) {
        deadlines::note_response_end(session);
    }
    Ok(())
}

/// Replaces a piece of the body by its compressed form. Pingora does not say whether the host will be silent next, so each
/// piece is flushed.
///
/// # Errors
/// If the encoder fails.
pub(super) fn compress_body(
    body: &mut Option<Bytes>,
    is_last: bool,
    ctx: &mut RequestContext,
) -> Result<()> {
    let mut compressed = Vec::new();
    ctx.compress(body.as_deref().unwrap_or_default(), &mut compressed)?;
    match is_last {
        true => ctx.finish_compression(&mut compressed)?,
        false => ctx.flush_compression(&mut compressed)?,
    }
    *body = (!compressed.is_empty()).then(|| compressed.into());
    Ok(())
}

/// The request as far as it has been sent to a host.
pub(super) fn sent_request(session: &Session, ctx: &RequestContext) -> SentRequest {
    let replayable = !session.as_ref().retry_buffer_truncated();
    let answered = session.response_written().is_some();
    ctx.sent_request(session.req_header().into(), replayable, answered)
}
