//! Builds the response head that the client receives from the one that the host sent.

use http::header::{CONNECTION, DATE, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use pingora::Result;
use pingora::protocols::http::date;

use super::header_edits::HeaderEdits;
use crate::message::body_decoder::BodyDecoder;
use crate::message::encode::{write_field, write_head_end, write_status_line};
use crate::message::framing::{self, ContentLength, TransferCoding};
use crate::message::head::FieldLine;
use crate::message::{MessageHead, ResponseView};
use crate::proxy::forwarding::header_editor::HeaderEditor;
use crate::proxy::forwarding::route_edits::RouteEdits;
use crate::proxy::http_rules::{self, ResponseFieldFilter, Via};
use crate::proxy::local_message::Persistence;

/// How the host frames the response body, and how the client receives it.
#[derive(Debug)]
pub(super) struct ResponseFraming {
    /// Decodes the body that the host sends.
    pub(super) body: BodyDecoder,
    /// Bytes of the body as the host announces them; in response to HEAD, those that GET would get.
    pub(super) length: Option<u64>,
    /// Whether the client receives it with chunked transfer coding.
    pub(super) chunked: bool,
    /// Whether only closing the client's connection marks the end of the body.
    pub(super) until_close: bool,
    /// Whether the host's connection can be reused after the response.
    pub(super) reusable: bool,
}

impl ResponseFraming {
    /// The framing of a response to a request with this method and version.
    pub(super) fn new(
        response: ResponseView<'_>,
        length: ContentLength,
        method: &Method,
        version: Version,
    ) -> Self {
        let has_connection =
            |option| framing::has_option(response.fields.get_all(&CONNECTION), option);
        let mut reusable = match response.version {
            Version::HTTP_10 => has_connection(b"keep-alive") && !has_connection(b"close"),
            _ => !has_connection(b"close"),
        };
        let coding = framing::transfer_coding(response.fields.get_all(&TRANSFER_ENCODING));
        let body = match (coding, length) {
            _ if is_bodiless(response.status, method) => BodyDecoder::Length(0),
            (TransferCoding::Chunked, length) => {
                // With both Transfer-Encoding and Content-Length, the host may mean another end than the chunks' (RFC
                // 9112 6.3): the connection is not reused.
                reusable &= length == ContentLength::Absent;
                BodyDecoder::chunked()
            }
            (_, ContentLength::Canonical(length) | ContentLength::NonCanonical(length)) => {
                BodyDecoder::Length(length)
            }
            _ => {
                reusable = false;
                BodyDecoder::UntilClose
            }
        };
        let length = match (coding, length) {
            (
                TransferCoding::Absent,
                ContentLength::Canonical(length) | ContentLength::NonCanonical(length),
            ) => Some(length),
            _ => None,
        };
        let has_unknown_length = !matches!(body, BodyDecoder::Length(_));
        // The response to HEAD carries the fields that GET would get, and 304 those of 200.
        let is_announced =
            coding == TransferCoding::Chunked && response.status != StatusCode::NO_CONTENT;
        ResponseFraming {
            body,
            length,
            chunked: (has_unknown_length || is_announced) && version == Version::HTTP_11,
            until_close: has_unknown_length && version != Version::HTTP_11,
            reusable,
        }
    }
}

fn is_bodiless(status: StatusCode, method: &Method) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Collects in `edits` how the head for the client differs from the one that the host sent.
pub(super) fn edit_head(
    response: ResponseView<'_>,
    length: ContentLength,
    (via, cookie, route): (Option<&Via>, Option<&str>, Option<&RouteEdits<'_>>),
    edits: &mut HeaderEdits,
) -> Result<()> {
    edits.clear();
    http_rules::set_response_hop_fields((response.status, response.version), length, via, edits)?;
    if let Some(route) = route {
        route.edit_response(response.fields, edits)?;
    }
    if let Some(cookie) = cookie {
        edits.append("Set-Cookie", cookie.as_bytes())?;
    }
    Ok(())
}

/// Appends the response head for the client.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    (head, bytes): (&MessageHead, &[u8]),
    response: ResponseView<'_>,
    (chunked, connection): (bool, Option<Persistence>),
    route: Option<RouteEdits<'_>>,
    edits: &HeaderEdits,
) {
    let route = route.filter(RouteEdits::restores);
    let reason = head.reason(bytes);
    write_status_line(out, response.status.as_u16(), Some(reason));
    let field_filter = ResponseFieldFilter::new(response);
    let mut has_date = response.status.is_informational();
    for line in response.fields.lines() {
        let FieldLine { name, value, .. } = line;
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if !field_filter.passes(name) || is(TRANSFER_ENCODING.as_str()) || edits.replaces(name) {
            continue;
        }
        has_date |= is(DATE.as_str());
        match route.and_then(|route| route.restored(name, value)) {
            Some(restored) => write_field(out, name, &restored),
            None => line.write(out),
        }
    }
    edits.write(out);
    if !has_date {
        // RFC 9110 6.6.1: a recipient with a clock adds a missing Date.
        write_field(out, b"Date", date::get_cached_date().as_bytes());
    }
    if chunked {
        write_field(out, b"Transfer-Encoding", b"chunked");
    }
    if let Some(connection) = connection {
        connection.write(out);
    }
    write_head_end(out);
}
