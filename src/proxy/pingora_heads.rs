//! What the decisions say about heads, done to those of Pingora.

use http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, Version};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;

use super::answer::{self, Connection};
use super::outgoing::Outgoing;
use super::rules::{self, Length, Passing, Via};
use super::site::Site;
use crate::config::Limits;
use crate::record::Ending;

/// Answers a request that must not be passed on, and tells what it ended with if it did. What may be said in several ways
/// is said in one afterwards.
pub(super) async fn refuse(session: &mut Session, site: &Site) -> Result<Option<Ending>> {
    if rules::says_close(session.req_header().into()) {
        // Pingora looks at the first Connection field alone.
        session.set_keepalive(None);
    }
    let raw = session
        .as_http1()
        .map(|http1| http1.get_headers_raw_bytes());
    match rules::judge(session.req_header().into(), raw.as_deref(), &site.limits) {
        Err((answer, Connection::Keep)) => {
            answer::send(session, answer, Connection::Keep).await?;
            return Ok(Some(answer.ending()));
        }
        Err((answer, Connection::Close)) => {
            answer::send_last(session, answer, true).await?;
            return Ok(Some(answer.ending()));
        }
        Ok(Length::Repeated(length)) => {
            session
                .req_header_mut()
                .insert_header(CONTENT_LENGTH, length)?;
        }
        Ok(_) => {}
    }
    Ok(None)
}

/// Removes what neither a route nor a host is to see.
pub(super) fn clean(request: &mut RequestHeader, site: &Site, trusted: bool) {
    for name in &names(&request.headers, |name| {
        rules::is_dropped(name, site, trusted)
    }) {
        request.remove(name);
    }
}

/// Makes the head of a host's answer one that may be passed on, to a request that asked for this `upgrade`.
///
/// # Errors
/// If it must not be.
pub(super) fn pass_back(
    response: &mut ResponseHeader,
    upgrade: Option<&str>,
    limits: &Limits,
    via: Option<&Via>,
) -> Result<()> {
    let length = rules::judge_answer((&*response).into(), upgrade, limits)?;
    let passing = Passing::new((&*response).into());
    for name in &names(&response.headers, |name| !passing.passes(name)) {
        response.remove(name);
    }
    let said = (response.status, response.version);
    rules::set_hop(said, length, via, response)?;
    // Whoever passes a message on speaks for itself, RFC 9110 6.2.
    response.set_version(Version::HTTP_11);
    Ok(())
}

/// Ends a body of unknown length as the client's version can understand: HTTP/1.0 knows no chunks, so there the end of
/// the connection is the end of the body.
pub(super) fn suit_client(session: &mut Session, response: &mut ResponseHeader) {
    if session.req_header().version == Version::HTTP_10
        && response.remove_header(&TRANSFER_ENCODING).is_some()
    {
        session.set_keepalive(None);
    }
}

/// The names of the fields that this is true of.
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
