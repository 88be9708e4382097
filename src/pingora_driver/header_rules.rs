//! Applies the rules for headers to Pingora's header types.

use http::Version;
use http::header::{self, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::{is_over_tls, respond};
use crate::config::Limits;
use crate::proxy::context::RequestContext;
use crate::proxy::forwarding::header_editor::HeaderEditor;
use crate::proxy::forwarding::route_edits::RouteEdits;
use crate::proxy::http_rules::{self, ContentLength, ResponseFieldFilter, Via};
use crate::proxy::local_message::{LocalMessage, Persistence};
use crate::record::TerminationReason;

/// Sends a response to a request that must not be forwarded, and returns its termination reason. An equivalent but
/// unusual Content-Length is rewritten in its canonical form.
pub(crate) async fn check_request(
    session: &mut Session,
    ctx: &mut RequestContext,
) -> Result<Option<TerminationReason>> {
    if http_rules::has_connection_close(session.req_header().into()) {
        // Pingora evaluates only the first Connection field.
        session.set_keepalive(None);
    }
    let raw = session
        .as_http1()
        .map(|http1| http1.get_headers_raw_bytes());
    let limits = &ctx.active.limits;
    match http_rules::validate_request(session.req_header().into(), raw.as_deref(), limits) {
        Err((response, persistence)) => {
            let mut response = Box::<LocalMessage>::from(response);
            let tls = is_over_tls(session);
            ctx.edit_local(&mut response, session.req_header().into(), tls);
            match persistence {
                Persistence::KeepAlive => respond::send(session, &response, persistence).await?,
                Persistence::Close => respond::send_and_close(session, &response, true).await?,
            }
            return Ok(Some(response.termination()));
        }
        Ok(ContentLength::NonCanonical(length)) => {
            session
                .req_header_mut()
                .insert_header(CONTENT_LENGTH, length)?;
        }
        Ok(_) => {}
    }
    Ok(None)
}

/// Prepares the head of a host's response for the client. `upgrade` is the protocol that the request asked for.
///
/// # Errors
/// If the response must not be forwarded.
pub(crate) fn filter_response(
    response: &mut ResponseHeader,
    upgrade: Option<&str>,
    limits: &Limits,
    via: Option<&Via>,
) -> Result<()> {
    let length = http_rules::validate_response((&*response).into(), upgrade, limits)?;
    let passing = ResponseFieldFilter::new((&*response).into());
    for name in &http_rules::names_where(&response.headers, |name| !passing.passes(name)) {
        response.remove(name);
    }
    let status_line = (response.status, response.version);
    http_rules::set_response_hop_fields(status_line, length, via, response)?;
    // A proxy sends its own protocol version, RFC 9110 6.2.
    response.set_version(Version::HTTP_11);
    Ok(())
}

/// Makes the changes of the request's route.
pub(crate) fn edit_response(response: &mut ResponseHeader, route: &RouteEdits<'_>) -> Result<()> {
    if route.restores() {
        for name in [
            header::LOCATION,
            header::CONTENT_LOCATION,
            header::SET_COOKIE,
        ] {
            let values = Vec::from_iter(response.headers.get_all(&name).iter().cloned());
            let restored = values.iter().map(|value| {
                let restored = route.restored(name.as_str().as_bytes(), value.as_bytes());
                restored.and_then(|value| HeaderValue::from_bytes(&value).ok())
            });
            let restored = Vec::from_iter(restored);
            if restored.iter().all(Option::is_none) {
                continue;
            }
            response.remove_header(&name);
            for (value, restored) in values.into_iter().zip(restored) {
                response.append_header(name.clone(), restored.unwrap_or(value))?;
            }
        }
    }
    let received = response.headers.clone();
    route.edit_response((&received).into(), response)
}

/// Delimits a body of unknown length for the client's version: HTTP/1.0 has no chunks, so closing the connection ends
/// the body.
pub(crate) fn adapt_to_client_version(session: &mut Session, response: &mut ResponseHeader) {
    if session.req_header().version == Version::HTTP_10
        && response.remove_header(&TRANSFER_ENCODING).is_some()
    {
        session.set_keepalive(None);
    }
}
