//! The head of a host's answer as its client gets it.

use http::header::{CONNECTION, DATE, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use pingora::Result;
use pingora::protocols::http::date;

use super::outgoing::Additions;
use crate::message::body::Body;
use crate::message::framing::{self, Coding, Length};
use crate::message::write::{end, field, status_line};
use crate::message::{Head, ResponseView};
use crate::proxy::answer::Connection;
use crate::proxy::outgoing::Outgoing;
use crate::proxy::rules::{self, Passing, Via};

/// How the body of an answer comes from the host, and goes to the client.
#[derive(Debug)]
pub(super) struct Framing {
    /// What comes from the host.
    pub(super) body: Body,
    /// Whether the client gets it in chunks.
    pub(super) chunked: bool,
    /// Whether only the end of the client's connection ends it.
    pub(super) until_close: bool,
    /// Whether the host's connection can be used again behind it.
    pub(super) reusable: bool,
}

impl Framing {
    /// That of an answer to a request of this method and version.
    pub(super) fn of(
        response: ResponseView<'_>,
        length: Length,
        method: &Method,
        version: Version,
    ) -> Self {
        let says = |option| framing::has_option(response.fields.get_all(&CONNECTION), option);
        let mut reusable = match response.version {
            Version::HTTP_10 => says(b"keep-alive") && !says(b"close"),
            _ => !says(b"close"),
        };
        let coding = framing::coding(response.fields.get_all(&TRANSFER_ENCODING));
        let body = match (coding, length) {
            _ if is_bodiless(response.status, method) => Body::Length(0),
            (Coding::Chunked, length) => {
                // Whoever sends both may have meant something else to end it.
                reusable &= length == Length::Absent;
                Body::chunked()
            }
            (_, Length::Plain(length) | Length::Repeated(length)) => Body::Length(length),
            _ => {
                reusable = false;
                Body::UntilClose
            }
        };
        let of_unknown_length = !matches!(body, Body::Length(_));
        // HEAD is told what GET would be, and 304 what 200 would.
        let is_announced = coding == Coding::Chunked && response.status != StatusCode::NO_CONTENT;
        Framing {
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

/// Appends the head of an answer for the client; `additions` are used for what is added.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    (head, bytes): (&Head, &[u8]),
    response: ResponseView<'_>,
    length: Length,
    (chunked, connection): (bool, Option<Connection>),
    (via, cookie): (Option<&Via>, Option<&str>),
    additions: &mut Additions,
) -> Result<()> {
    additions.clear();
    rules::set_hop((response.status, response.version), length, via, additions)?;
    if let Some(cookie) = cookie {
        additions.append("Set-Cookie", cookie.as_bytes())?;
    }
    let reason = head.reason(bytes);
    status_line(out, response.status.as_u16(), Some(reason));
    let passing = Passing::new(response);
    let mut dated = response.status.is_informational();
    for (name, value) in response.fields.iter() {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if !passing.passes(name) || is(TRANSFER_ENCODING.as_str()) || additions.replaces(name) {
            continue;
        }
        dated |= is(DATE.as_str());
        field(out, name, value);
    }
    additions.write(out);
    if !dated {
        // RFC 9110 6.6.1: whoever has a clock adds it.
        field(out, b"Date", date::get_cached_date().as_bytes());
    }
    if chunked {
        field(out, b"Transfer-Encoding", b"chunked");
    }
    if let Some(connection) = connection {
        connection.write(out);
    }
    end(out);
    Ok(())
}
