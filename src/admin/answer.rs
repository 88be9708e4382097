//! Small answers.

use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode};
use pingora::protocols::http::ServerSession;

/// An answer of this kind; the body is left out where the request was HEAD. The connection ends with it: whoever asks
/// here asks rarely, and a kept connection would outlive a handover.
pub(super) fn answer(
    session: &mut ServerSession,
    status: StatusCode,
    kind: &'static str,
    body: Vec<u8>,
) -> Response<Vec<u8>> {
    session.set_keepalive(None);
    let mut response = Response::new(Vec::new());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(header::CONTENT_LENGTH, body.len().into());
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if session.req_header().method != Method::HEAD {
        *response.body_mut() = body;
    }
    response
}

/// One line of text.
pub(super) fn text(
    session: &mut ServerSession,
    status: StatusCode,
    line: &str,
) -> Response<Vec<u8>> {
    answer(
        session,
        status,
        "text/plain; charset=utf-8",
        format!("{line}\n").into_bytes(),
    )
}
