//! Header fields of requests and responses on an HTTP/2 stream.

use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderValue, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};

/// The head of a response without a body.
pub(crate) fn empty_response(status: StatusCode) -> Box<ResponseHeader> {
    let mut head = ResponseHeader::build(status, Some(2)).expect("a status is a status");
    head.insert_header(CONTENT_LENGTH, 0)
        .expect("a number is a valid value");
    Box::new(head)
}

/// Whether a request has `Content-Length: 0`.
pub(crate) fn has_zero_length(request: &RequestHeader) -> bool {
    let mut lengths = request.headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        // An invalid Content-Length is rejected later.
        (Some(length), None) => {
            !length.is_empty() && length.as_bytes().iter().all(|it| *it == b'0')
        }
        _ => false,
    }
}

/// Whether a request has a Host field that differs from its :authority, RFC 9113 8.3.1.
pub(crate) fn names_two_authorities(request: &RequestHeader) -> bool {
    let (host, authority) = (request.headers.get(HOST), request.uri.authority());
    host.zip(authority)
        .is_some_and(|(host, authority)| host.as_bytes() != authority.as_str().as_bytes())
}

/// Joins the Cookie fields of a request into one, RFC 9113 8.2.3.
pub(crate) fn join_cookies(request: &mut RequestHeader) {
    let cookies: Vec<&[u8]> = request
        .headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if cookies.len() < 2 {
        return;
    }
    let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
        .expect("values that are valid one by one are valid together");
    request
        .insert_header(COOKIE, joined)
        .expect("the field is there already");
}
