//! The head of a host's answer as its client gets it.

use http::header::{CONNECTION, DATE, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use pingora::Result;
use pingora::protocols::http::date;

use super::header_edits::HeaderEdits;
use crate::message::body_decoder::BodyDecoder;
use crate::message::encode::{write_field, write_head_end, write_status_line};
use crate::message::framing::{self, ContentLength, TransferCoding};
use crate::message::{MessageHead, ResponseView};
use crate::proxy::forwarding::header_editor::HeaderEditor;
use crate::proxy::http_rules::{self, ResponseFieldFilter, Via};
use crate::proxy::local_response::Persistence;

/// How the body of an answer comes from the host, and goes to the client.
#[derive(Debug)]
pub(super) struct ResponseFraming {
    /// What comes from the host.
    pub(super) body: BodyDecoder,
    /// Whether the client gets it in chunks.
    pub(super) chunked: bool,
    /// Whether only the end of the client's connection ends it.
    pub(super) until_close: bool,
    /// Whether the host's connection can be used again behind it.
    pub(super) reusable: bool,
}

impl ResponseFraming {
    /// That of an answer to a request of this method and version.
    pub(super) fn new(
        response: ResponseView<'_>,
        length: ContentLength,
        method: &Method,
        version: Version,
    ) -> Self {
        let says = |option| framing::has_option(response.fields.get_all(&CONNECTION), option);
        let mut reusable = match response.version {
            Version::HTTP_10 => says(b"keep-alive") && !says(b"close"),
            _ => !says(b"close"),
        };
        let coding = framing::transfer_coding(response.fields.get_all(&TRANSFER_ENCODING));
        let body = match (coding, length) {
            _ if is_bodiless(response.status, method) => BodyDecoder::Length(0),
            (TransferCoding::Chunked, length) => {
                // Whoever sends both may have meant something else to end it.
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
        let of_unknown_length = !matches!(body, BodyDecoder::Length(_));
        // HEAD is told what GET would be, and 304 what 200 would.
        let is_announced =
            coding == TransferCoding::Chunked && response.status != StatusCode::NO_CONTENT;
        ResponseFraming {
            body,
            chunked: (of_unknown_length || is_announced) && version == Version::HTTP_11,
            until_close: of_unknown_length && version != Version::HTTP_11,
            reusable,
        }
    }
}

fn is_bodiless(status: StatusCode, method: &Method) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Appends the head of an answer for the client; `edits` are used for what is added.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    (head, bytes): (&MessageHead, &[u8]),
    response: ResponseView<'_>,
    length: ContentLength,
    (chunked, connection): (bool, Option<Persistence>),
    (via, cookie): (Option<&Via>, Option<&str>),
    edits: &mut HeaderEdits,
) -> Result<()> {
    edits.clear();
    http_rules::set_response_hop_fields((response.status, response.version), length, via, edits)?;
    if let Some(cookie) = cookie {
        edits.append("Set-Cookie", cookie.as_bytes())?;
    }
    let reason = head.reason(bytes);
    write_status_line(out, response.status.as_u16(), Some(reason));
    let passing = ResponseFieldFilter::new(response);
    let mut dated = response.status.is_informational();
    for (name, value) in response.fields.iter() {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if !passing.passes(name) || is(TRANSFER_ENCODING.as_str()) || edits.replaces(name) {
            continue;
        }
        dated |= is(DATE.as_str());
        write_field(out, name, value);
    }
    edits.write(out);
    if !dated {
        // RFC 9110 6.6.1: whoever has a clock adds it.
        write_field(out, b"Date", date::get_cached_date().as_bytes());
    }
    if chunked {
        write_field(out, b"Transfer-Encoding", b"chunked");
    }
    if let Some(connection) = connection {
        connection.write(out);
    }
    write_head_end(out);
    Ok(())
}
