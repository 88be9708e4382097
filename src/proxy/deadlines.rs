//! Deadlines of a request that only its phases know: the rate of its body, and the whole head of the host's answer.

use std::sync::Arc;
use std::time::Duration;

use http::header;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::client::Client;
use super::context::RequestContext;

/// How long a client may take to get a body going before its rate is looked at.
const WARM_UP: Duration = Duration::from_secs(5);

/// The head of a request has been read: the client's time for it is over.
pub(super) fn head_is_read(session: &mut Session, ctx: &mut RequestContext) {
    let due = due(session.as_downstream());
    let Some(client) = Client::of(session.as_downstream()) else {
        session.set_write_timeout(Some(ctx.site.timeouts.write));
        return;
    };
    client.head_is_read(due);
    ctx.gate = Some(Arc::clone(client.gate()));
    ctx.waited = client.waited();
    let most = ctx.site.limits.max_requests_per_connection;
    if most.is_some_and(|most| client.request_number() >= most) {
        session.set_keepalive(None);
    }
}

/// The bytes of the whole request, if its head tells.
fn due(session: &ServerSession) -> u64 {
    let fields = &session.req_header().headers;
    let head = match session.as_http1() {
        Some(session) if !fields.contains_key(header::TRANSFER_ENCODING) => {
            session.get_headers_raw_bytes().len() as u64
        }
        _ => return u64::MAX,
    };
    match fields
        .get(header::CONTENT_LENGTH)
        .map(|length| length.to_str())
    {
        None => head,
        Some(length) => {
            let length = length.ok().and_then(|length| length.trim().parse().ok());
            head.saturating_add(length.unwrap_or(u64::MAX))
        }
    }
}

/// A part of the request's body has come; an error if the client takes too long over it.
pub(super) fn body_came(session: &Session, ctx: &RequestContext) -> Result<()> {
    let (Some(rate), Some(client)) = (
        ctx.site.limits.min_body_rate,
        Client::of(session.as_downstream()),
    ) else {
        return Ok(());
    };
    // The time in which we waited for the client; a host that reads slowly is not the client's fault.
    let waited = client.waited().saturating_sub(ctx.waited);
    let due = rate as f64 * waited.as_secs_f64();
    if waited > WARM_UP && (session.body_bytes_read() as f64) < due {
        let slow = "the body comes too slowly";
        return Err(Error::explain(ErrorType::ReadTimedout, slow).into_down());
    }
    Ok(())
}

/// The host has all of the request by now: from here on it owes the head of its answer. Pingora's timeout begins anew
/// with each byte of it.
pub(super) fn expect_answer(session: &Session, ctx: &RequestContext) {
    if let Some(client) = Client::of(session.as_downstream()) {
        client.expect_answer(Some(ctx.site.timeouts.read));
    }
}

/// The host has answered.
pub(super) fn answered(session: &Session) {
    if let Some(client) = Client::of(session.as_downstream()) {
        client.expect_answer(None);
    }
}

/// The error as the fault of whoever it was: the end of the host's time arises where the client is waited for.
pub(super) fn blame(session: &Session, error: Box<Error>) -> Box<Error> {
    let client = Client::of(session.as_downstream());
    if client.is_some_and(Client::take_host_late) {
        let late = "the head of the answer did not come in time";
        return Error::explain(ErrorType::ReadTimedout, late).into_up();
    }
    error
}
