//! Deadlines that depend on the phase of a request: the rate of its body, and the head of the host's response.

use std::time::Duration;

use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::client::{self, ClientStream};
use crate::message::body_decoder::BodyDecoder;
use crate::proxy::context::RequestContext;
use crate::proxy::http_rules;
use crate::proxy::local_response::LINGER;

/// How long a body may take before its rate is checked.
const WARM_UP: Duration = Duration::from_secs(5);

/// Whether the deadlines of this module limit the host's response, and Pingora's read timeout of the connection to the
/// host does not. Pingora has one such timeout for the handshake of an upgrade and for the tunnel, and over HTTP/2 its time
/// runs while the client is still sending.
pub(super) fn are_own(session: &Session, ctx: &RequestContext) -> bool {
    let is_http2 = ClientStream::of(session.as_downstream()).is_none();
    ctx.upgrade.is_some() || is_http2 && ctx.pool().protocol().may_be_http2()
}

/// The request's head has been read, so the timeout for heads no longer applies.
pub(super) fn note_request_head(session: &mut Session, ctx: &mut RequestContext) {
    let body = http_rules::request_body(session.req_header().into());
    let state = client::state_of(session.as_downstream());
    if let (Some(state), Some(left)) = (state, ctx.time_left()) {
        state.set_call_deadline(left);
    }
    ctx.response_started = state.map(|state| state.response_started());
    let Some(client) = ClientStream::of(session.as_downstream()) else {
        return;
    };
    client.note_head_read(body);
    ctx.client_wait = client.client_wait();
    let max_requests = ctx.active.limits.max_requests_per_connection;
    if max_requests.is_some_and(|max_requests| client.request_number() >= max_requests) {
        session.set_keepalive(None);
    }
}

/// Sets the timeouts for reading from and writing to the client: first those of the top level, then those of the request's
/// route and pool.
pub(super) fn set_timeouts(session: &mut Session, ctx: &RequestContext) {
    let timeouts = ctx.timeouts();
    session.set_read_timeout(Some(timeouts.read));
    match ClientStream::of(session.as_downstream()) {
        Some(client) => client.state().set_write_timeout(timeouts.write),
        None => session.set_write_timeout(Some(timeouts.write)),
    }
}

/// The host's response is complete. If the client is still sending its request, it has been told that the connection
/// closes and the rest is not needed, so the wait for it is short.
pub(super) fn note_response_end(session: &mut Session) {
    clear_response_deadline(session);
    if !session.was_upgraded() && !session.is_body_done() {
        session.set_read_timeout(Some(LINGER));
    }
}

/// The connection is now a tunnel.
pub(super) fn begin_tunnel(session: &mut Session, ctx: &RequestContext) {
    session.set_read_timeout(Some(ctx.timeouts().tunnel));
    if let Some(state) = client::state_of(session.as_downstream()) {
        state.tunnel().set_half_closed_timeout(ctx.timeouts().read);
    }
    if let Some(client) = ClientStream::of(session.as_downstream()) {
        client.note_head_read(BodyDecoder::UntilClose);
    }
}

/// A part of the request's body has arrived.
///
/// # Errors
/// If the client sends its body too slowly.
pub(super) fn check_body_rate(session: &Session, ctx: &RequestContext) -> Result<()> {
    if ctx.grpc.is_some() {
        // A stream of messages may pause.
        return Ok(());
    }
    let (Some(rate), Some(waited)) = (
        ctx.active.limits.min_body_rate,
        client::client_wait(session.as_downstream()),
    ) else {
        return Ok(());
    };
    // Only time spent waiting for the client counts; a host that reads slowly is not the client's fault.
    let waited = waited.saturating_sub(ctx.client_wait);
    let due = rate as f64 * waited.as_secs_f64();
    if waited > WARM_UP && (session.body_bytes_read() as f64) < due {
        let slow = "the body arrives too slowly";
        return Err(Error::explain(ErrorType::ReadTimedout, slow).into_down());
    }
    Ok(())
}

/// The host has the whole request, so the head of its response is due. A deadline is needed because Pingora's timeout
/// restarts with every byte. It also applies to each further part of a response on a connection that has the read
/// timeout of a tunnel.
pub(super) fn set_response_deadline(session: &Session, ctx: &RequestContext) {
    if let Some(state) = client::state_of(session.as_downstream()) {
        state.set_response_deadline(Some(ctx.timeouts().read));
    }
}

/// The host has responded.
pub(super) fn clear_response_deadline(session: &Session) {
    if let Some(state) = client::state_of(session.as_downstream()) {
        state.set_response_deadline(None);
    }
}

/// Attributes an error to the host or to the client. An expired response deadline of the host surfaces as an error of
/// the read from the client.
pub(super) fn attribute_error(session: &Session, error: Box<Error>) -> Box<Error> {
    let state = client::state_of(session.as_downstream());
    if state.is_some_and(|state| state.take_host_timeout()) {
        let late = "the host did not respond in time";
        return Error::explain(ErrorType::ReadTimedout, late).into_up();
    }
    error
}
