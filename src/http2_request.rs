//! What both drivers need of HTTP/2: a request on a stream, and what its response may not contain.

use std::fmt;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{CONNECTION, HeaderName, TRANSFER_ENCODING, UPGRADE};
use pingora::http::RequestHeader;

/// The size of informational responses that are passed on in one stream, in bytes. No window of HTTP/2 limits heads, so
/// a host could fill the memory with them while the client does not read.
const MAX_INFORMATIONAL: usize = 16 << 10;

/// What an informational response counts in addition to its fields, in bytes.
const INFORMATIONAL_OVERHEAD: usize = 64;

/// Fields of HTTP/1.1 that HTTP/2 does not have, RFC 9113 8.2.2.
pub(crate) const CONNECTION_FIELDS: [HeaderName; 5] = [
    TRANSFER_ENCODING,
    CONNECTION,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// How much of informational responses a stream has passed on.
#[derive(Debug, Default)]
pub(crate) struct InformationalSize(usize);

impl InformationalSize {
    /// Counts a response of `size` bytes. Returns whether it may be passed on; else it is dropped.
    pub(crate) fn admits(&mut self, size: usize) -> bool {
        self.0 += size + INFORMATIONAL_OVERHEAD;
        self.0 <= MAX_INFORMATIONAL
    }
}

/// Told of each part of a body that was taken, in bytes.
pub(crate) type UploadObserver = Box<dyn Fn(usize) + Send + Sync>;

/// A request on a stream, of which nothing has been read or answered.
pub struct Http2Request {
    /// The head, with the path as hosts are to see it and one Cookie field. For a tunnel, that of an upgrade.
    pub(crate) head: RequestHeader,
    /// The body.
    pub(crate) body: RecvStream,
    /// Takes the response.
    pub(crate) responder: SendResponse<Bytes>,
    /// Learns how the body progresses; `None` for a request without a body.
    pub(crate) upload: Option<UploadObserver>,
    /// Whether the client asks for a WebSocket by extended CONNECT, RFC 8441.
    pub(crate) is_tunnel: bool,
}

impl fmt::Debug for Http2Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Request")
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}
