//! Deadlines of a request that only its phases know: the rate of its body, and the whole head of the host's answer.

use std::sync::Arc;
use std::time::Duration;

use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::answer::LINGER;
use super::client::{self, Client};
use super::context::RequestContext;
use super::rules;
use crate::message::body::Body;

/// How long a client may take to get a body going before its rate is looked at.
const WARM_UP: Duration = Duration::from_secs(5);

/// The head of a request has been read: the client's time for it is over.
pub(super) fn head_is_read(session: &mut Session, ctx: &mut RequestContext) {
    let body = rules::announced_body(session.req_header().into());
    ctx.gate = client::gate(session.as_downstream()).map(Arc::clone);
    let Some(client) = Client::of(session.as_downstream()) else {
        session.set_write_timeout(Some(ctx.site.timeouts.write));
        return;
    };
    client.head_is_read(body);
    ctx.waited = client.waited();
    let most = ctx.site.limits.max_requests_per_connection;
    if most.is_some_and(|most| client.request_number() >= most) {
        session.set_keepalive(None);
    }
}

/// The host has answered in full. A client that has not sent all of its request by then has been told that its
/// connection ends, and nobody needs the rest: one that falls silent is not waited for.
pub(super) fn host_is_done(session: &mut Session) {
    answered(session);
    if !session.was_upgraded() && !session.is_body_done() {
        session.set_read_timeout(Some(LINGER));
    }
}

/// The connection is a tunnel from here on.
pub(super) fn upgraded(session: &mut Session, ctx: &RequestContext) {
    session.set_read_timeout(Some(ctx.site.timeouts.tunnel));
    if let Some(client) = Client::of(session.as_downstream()) {
        client.head_is_read(Body::UntilClose);
    }
}

/// A part of the request's body has come; an error if the client takes too long over it.
pub(super) fn body_came(session: &Session, ctx: &RequestContext) -> Result<()> {
    let (Some(rate), Some(waited)) = (
        ctx.site.limits.min_body_rate,
        client::waited(session.as_downstream()),
    ) else {
        return Ok(());
    };
    // The time in which we waited for the client; a host that reads slowly is not the client's fault.
    let waited = waited.saturating_sub(ctx.waited);
    let due = rate as f64 * waited.as_secs_f64();
    if waited > WARM_UP && (session.body_bytes_read() as f64) < due {
        let slow = "the body comes too slowly";
        return Err(Error::explain(ErrorType::ReadTimedout, slow).into_down());
    }
    Ok(())
}

/// The host has all of the request by now: from here on it owes the head of its answer. Pingora's timeout begins anew
/// with each byte of it. The same holds for each further part of an answer on a connection that has the time of a tunnel.
pub(super) fn expect_answer(session: &Session, ctx: &RequestContext) {
    if let Some(gate) = client::gate(session.as_downstream()) {
        gate.expect_answer(Some(ctx.site.timeouts.read));
    }
}

/// The host has answered.
pub(super) fn answered(session: &Session) {
    if let Some(gate) = client::gate(session.as_downstream()) {
        gate.expect_answer(None);
    }
}

/// The error as the fault of whoever it was: the end of the host's time arises where the client is waited for.
pub(super) fn blame(session: &Session, error: Box<Error>) -> Box<Error> {
    let gate = client::gate(session.as_downstream());
    if gate.is_some_and(|gate| gate.take_host_late()) {
        let late = "the answer did not come in time";
        return Error::explain(ErrorType::ReadTimedout, late).into_up();
    }
    error
}
