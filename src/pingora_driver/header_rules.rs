//! Applies the rules for headers to Pingora's header types.

use http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, Version};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use crate::config::Limits;
use crate::proxy::active_config::ActiveConfig;
use crate::proxy::forwarding::header_editor::HeaderEditor;
use crate::proxy::http_rules::{self, ContentLength, ResponseFieldFilter, Via};
use crate::proxy::local_response::{self, Persistence};
use crate::record::TerminationReason;

/// Sends a response to a request that must not be forwarded, and returns its termination reason. An equivalent but
/// unusual Content-Length is rewritten in its canonical form.
pub(crate) async fn check_request(
    session: &mut Session,
    active: &ActiveConfig,
) -> Result<Option<TerminationReason>> {
    if http_rules::has_connection_close(session.req_header().into()) {
        // Pingora evaluates only the first Connection field.
        session.set_keepalive(None);
    }
    let raw = session
        .as_http1()
        .map(|http1| http1.get_headers_raw_bytes());
    match http_rules::validate_request(session.req_header().into(), raw.as_deref(), &active.limits)
    {
        Err((answer, Persistence::KeepAlive)) => {
            local_response::send(session, answer, Persistence::KeepAlive).await?;
            return Ok(Some(answer.ending()));
        }
        Err((answer, Persistence::Close)) => {
            local_response::send_and_close(session, answer, true).await?;
            return Ok(Some(answer.ending()));
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

/// Removes the fields that are dropped before routing.
pub(crate) fn drop_fields(request: &mut RequestHeader, active: &ActiveConfig, trusted: bool) {
    for name in &names(&request.headers, |name| {
        http_rules::is_dropped(name, active, trusted)
    }) {
        request.remove(name);
    }
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
    for name in &names(&response.headers, |name| !passing.passes(name)) {
        response.remove(name);
    }
    let said = (response.status, response.version);
    http_rules::set_response_hop_fields(said, length, via, response)?;
    // A proxy sends its own protocol version, RFC 9110 6.2.
    response.set_version(Version::HTTP_11);
    Ok(())
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

/// The names of the fields that satisfy a predicate.
fn names(fields: &HeaderMap, is: impl Fn(&[u8]) -> bool) -> Vec<HeaderName> {
    let names = fields.keys();
    names
        .filter(|name| is(name.as_str().as_bytes()))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_go_by_all_their_values() {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for name in ["X_Real_IP", "X-Real-IP", "_", "Host", "x_real_ip"] {
            request.append_header(name, "1").unwrap();
        }
        for name in names(&request.headers, |name| name.contains(&b'_')) {
            request.remove(&name);
        }
        assert_eq!(request.headers.len(), 2);
        assert!(request.headers.contains_key("x-real-ip"));
        assert!(request.headers.contains_key("host"));
    }
}
