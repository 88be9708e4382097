//! A response of the proxy's own, ready to be sent.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::date;

use super::local_response::{LocalResponse, ceil_seconds};
use crate::config::Maintenance;
use crate::message::encode;
use crate::record::TerminationReason;

/// Value of Allow: the common methods. The proxy forwards other methods as well.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// A response with its header fields and its body. Framing and connection fields are added when it is sent.
#[derive(Debug, Clone)]
pub(crate) struct LocalMessage {
    /// Recorded as the reason why the request ended.
    pub(super) termination: TerminationReason,
    pub(super) status: u16,
    pub(super) fields: HeaderMap,
    pub(super) body: Bytes,
    /// Whether a service has written it, so that it has the body that it should have.
    pub(super) is_of_service: bool,
}

impl From<LocalResponse> for LocalMessage {
    fn from(response: LocalResponse) -> Self {
        let mut message = LocalMessage::new(response.termination, response.status);
        if !response.text.is_empty() {
            let text = HeaderValue::from_static("text/plain");
            message.set_body(text, Bytes::from_static(response.text.as_bytes()));
        }
        if let Some(seconds) = response.retry_after {
            message.fields.insert(RETRY_AFTER, seconds.into());
        }
        if response.allow {
            let methods = HeaderValue::from_static(METHODS);
            message.fields.insert(ALLOW, methods);
        }
        message
    }
}

// Futures of requests are small because what few of them need is not within them.
impl From<LocalResponse> for Box<LocalMessage> {
    fn from(response: LocalResponse) -> Self {
        Box::new(response.into())
    }
}

impl LocalMessage {
    /// A response without a body.
    pub(super) fn new(termination: TerminationReason, status: u16) -> Self {
        LocalMessage {
            termination,
            status,
            fields: HeaderMap::new(),
            body: Bytes::new(),
            is_of_service: false,
        }
    }

    /// The response of an authentication service, without fields and body.
    pub(super) fn of_service(termination: TerminationReason, status: u16) -> Self {
        LocalMessage {
            is_of_service: true,
            ..LocalMessage::new(termination, status)
        }
    }

    /// A redirect to `location`.
    pub(super) fn redirect(status: u16, location: HeaderValue) -> Self {
        let mut message = LocalMessage::new(TerminationReason::Complete, status);
        message.fields.insert(LOCATION, location);
        message
    }

    /// The response to an ACME challenge (RFC 8555 8.3).
    pub(super) fn challenge_answer(answer: Bytes) -> Self {
        let mut message = LocalMessage::new(TerminationReason::Complete, 200);
        let bytes = HeaderValue::from_static("application/octet-stream");
        message.set_body(bytes, answer);
        message
    }

    /// The response to requests for a pool in maintenance.
    pub(super) fn maintenance(maintenance: &Maintenance) -> Self {
        let mut message = LocalMessage::new(TerminationReason::Maintenance, 503);
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        message.set_body(text, format!("503 {}\n", maintenance.message).into());
        let wait = ceil_seconds(maintenance.retry_after);
        message.fields.insert(RETRY_AFTER, wait.into());
        message
    }

    /// What the body says, without the status that it begins with.
    pub(super) fn reason(&self) -> Bytes {
        let text = self.body.trim_ascii();
        let status = self.status.to_string();
        let rest = text.strip_prefix(status.as_bytes());
        self.body.slice_ref(rest.unwrap_or(text).trim_ascii_start())
    }

    /// Replaces the body.
    pub(super) fn set_body(&mut self, media_type: HeaderValue, body: Bytes) {
        self.fields.insert(CONTENT_TYPE, media_type);
        self.body = body;
    }

    /// The whole response in HTTP/1.1 format, with `Connection: close`.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes, Persistence::Close, false);
        bytes
    }

    /// Appends the response in HTTP/1.1 format. `head_only` omits the body.
    pub(crate) fn write(&self, out: &mut Vec<u8>, connection: Persistence, head_only: bool) {
        encode::write_status_line(out, self.status, None);
        let date = date::get_cached_date();
        encode::write_field(out, b"Date", date.as_bytes());
        for (name, value) in &self.fields {
            encode::write_field(out, &title_case(name), value.as_bytes());
        }
        if self.has_length() {
            encode::write_number_field(out, b"Content-Length", self.body.len() as u64);
        }
        connection.write(out);
        encode::write_head_end(out);
        if !head_only {
            out.extend_from_slice(&self.body);
        }
    }

    /// The head as a Pingora header, for a response that a session sends.
    ///
    /// # Errors
    /// If Pingora rejects a field, which does not happen with these.
    pub(crate) fn to_header(&self) -> Result<ResponseHeader> {
        let mut head = ResponseHeader::build(self.status, Some(self.fields.len() + 2))?;
        for (name, value) in &self.fields {
            head.append_header(name.clone(), value)?;
        }
        if self.has_length() {
            head.insert_header(http::header::CONTENT_LENGTH, self.body.len())?;
        }
        Ok(head)
    }

    /// Whether the response has a Content-Length, which these statuses have not (RFC 9110 8.6).
    fn has_length(&self) -> bool {
        !matches!(self.status, 204 | 304)
    }

    /// The termination reason of a request that gets this response.
    pub(crate) fn termination(&self) -> TerminationReason {
        self.termination
    }

    /// Whether the client's connection may stay open. A client whose body is too long may still send all of it.
    pub(crate) fn persistence(&self) -> Persistence {
        Persistence::from_keep_alive(self.termination != TerminationReason::TooLarge)
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }
}

/// A name as HTTP/1.1 usually writes it: each word begins with a capital.
fn title_case(name: &HeaderName) -> Vec<u8> {
    let mut previous = b'-';
    let title = name.as_str().bytes().map(|byte| {
        let is_first = std::mem::replace(&mut previous, byte) == b'-';
        if is_first {
            byte.to_ascii_uppercase()
        } else {
            byte
        }
    });
    title.collect()
}

/// Whether the client's connection stays open after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    KeepAlive,
    Close,
}

impl Persistence {
    /// Appends the Connection field. Keep-alive is the default of HTTP/1.1, but HTTP/1.0 needs the field.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let option: &[u8] = match self {
            Persistence::KeepAlive => b"keep-alive",
            Persistence::Close => b"close",
        };
        encode::write_field(out, b"Connection", option);
    }

    pub(crate) fn from_keep_alive(keep: bool) -> Self {
        match keep {
            true => Persistence::KeepAlive,
            false => Persistence::Close,
        }
    }
}
