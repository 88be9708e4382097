//! Deadlines of a request that only its phases know: the rate of its body, and the whole head of the host's answer.

use std::sync::Arc;
use std::time::Duration;

use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::client::{self, ClientStream};
use crate::message::body_decoder::BodyDecoder;
use crate::proxy::context::RequestContext;
use crate::proxy::http_rules;
use crate::proxy::local_response::LINGER;

/// How long a client may take to get a body going before its rate is looked at.
const WARM_UP: Duration = Duration::from_secs(5);

/// The head of a request has been read: the client's time for it is over.
pub(super) fn note_request_head(session: &mut Session, ctx: &mut RequestContext) {
    let body = http_rules::request_body(session.req_header().into());
    ctx.connection_state = client::state_of(session.as_downstream()).map(Arc::clone);
    let Some(client) = ClientStream::of(session.as_downstream()) else {
        session.set_write_timeout(Some(ctx.active.timeouts.write));
        return;
    };
    client.note_head_read(body);
    ctx.client_wait = client.client_wait();
    let most = ctx.active.limits.max_requests_per_connection;
    if most.is_some_and(|most| client.request_number() >= most) {
        session.set_keepalive(None);
    }
}

/// The host has answered in full. A client that has not sent all of its request by then has been told that its
/// connection ends, and nobody needs the rest: one that falls silent is not waited for.
pub(super) fn note_response_end(session: &mut Session) {
    clear_response_deadline(session);
    if !session.was_upgraded() && !session.is_body_done() {
        session.set_read_timeout(Some(LINGER));
    }
}

/// The connection is a tunnel from here on.
pub(super) fn begin_tunnel(session: &mut Session, ctx: &RequestContext) {
    session.set_read_timeout(Some(ctx.active.timeouts.tunnel));
    if let Some(client) = ClientStream::of(session.as_downstream()) {
        client.note_head_read(BodyDecoder::UntilClose);
    }
}

/// A part of the request's body has come; an error if the client takes too long over it.
pub(super) fn check_body_rate(session: &Session, ctx: &RequestContext) -> Result<()> {
    let (Some(rate), Some(waited)) = (
        ctx.active.limits.min_body_rate,
        client::client_wait(session.as_downstream()),
    ) else {
        return Ok(());
    };
    // The time in which we waited for the client; a host that reads slowly is not the client's fault.
    let waited = waited.saturating_sub(ctx.client_wait);
    let due = rate as f64 * waited.as_secs_f64();
    if waited > WARM_UP && (session.body_bytes_read() as f64) < due {
        let slow = "the body comes too slowly";
        return Err(Error::explain(ErrorType::ReadTimedout, slow).into_down());
    }
    Ok(())
}

/// The host has all of the request by now: from here on it owes the head of its answer. Pingora's timeout begins anew
/// with each byte of it. The same holds for each further part of an answer on a connection that has the time of a tunnel.
pub(super) fn set_response_deadline(session: &Session, ctx: &RequestContext) {
    if let Some(state) = client::state_of(session.as_downstream()) {
        state.set_response_deadline(Some(ctx.active.timeouts.read));
    }
}

/// The host has answered.
pub(super) fn clear_response_deadline(session: &Session) {
    if let Some(state) = client::state_of(session.as_downstream()) {
        state.set_response_deadline(None);
    }
}

/// The error as the fault of whoever it was: the end of the host's time arises where the client is waited for.
pub(super) fn attribute_error(session: &Session, error: Box<Error>) -> Box<Error> {
    let state = client::state_of(session.as_downstream());
    if state.is_some_and(|state| state.take_host_timeout()) {
        let late = "the answer did not come in time";
        return Error::explain(ErrorType::ReadTimedout, late).into_up();
    }
    error
}
