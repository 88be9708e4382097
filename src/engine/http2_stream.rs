//! A request and its response on a stream of an HTTP/2 connection, as a transport of HTTP/1.1.
//!
//! The engine reads the body as it would come over HTTP/1.1: with chunks if its length is not known in advance. What the
//! engine writes, a response of HTTP/1.1 without chunks, becomes frames. Everything between is the same for both
//! versions.

use std::fmt;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, HeaderName, SEC_WEBSOCKET_ACCEPT};
use http::{HeaderValue, Method, Response, StatusCode, Version};
use pingora::http::RequestHeader;

use super::buffer::Buffer;
use crate::http2_request::{CONNECTION_FIELDS, Http2Request, InformationalSize, UploadObserver};
use crate::message::MessageHead;
use crate::message::body_decoder::BodyDecoder;
use crate::message::head::{HeadProgress, MAX_FIELDS};
use crate::message::{RequestView, chunked, framing};
use crate::proxy::http_rules;

/// The most bytes that are copied for one call of h2, which makes frames of them.
const MAX_DATA: usize = 32 << 10;

/// The stream of a request.
pub(super) struct Http2Stream {
    body: RecvStream,
    upload: Option<UploadObserver>,
    /// Whether the engine gets the body in chunks.
    chunked: bool,
    /// Whether the whole body has been read.
    is_read: bool,
    responder: SendResponse<Bytes>,
    /// Takes the body of the response.
    sending: Option<SendStream<Bytes>>,
    response: ResponseState,
    head: MessageHead,
    informational: InformationalSize,
    is_head_request: bool,
    is_tunnel: bool,
}

/// How far the response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseState {
    AwaitingHead,
    /// The body has so many more bytes; `None`: it ends with the shutdown.
    Body(Option<u64>),
    Ended,
}

impl fmt::Debug for Http2Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Stream")
            .field("response", &self.response)
            .finish_non_exhaustive()
    }
}

impl Http2Stream {
    /// The stream of a request, and its head.
    pub(super) fn of(request: Http2Request) -> (Self, RequestHeader) {
        let head = request.head;
        let is_read = request.body.is_end_stream();
        let has_length = head.headers.contains_key(CONTENT_LENGTH);
        let stream = Http2Stream {
            chunked: !is_read && !has_length && !request.is_tunnel,
            body: request.body,
            upload: request.upload,
            is_read,
            responder: request.responder,
            sending: None,
            response: ResponseState::AwaitingHead,
            head: MessageHead::default(),
            informational: InformationalSize::default(),
            is_head_request: head.method == Method::HEAD,
            is_tunnel: request.is_tunnel,
        };
        (stream, head)
    }

    /// The request with this head, of which nothing has been read or sent.
    pub(super) fn into_request(self, head: RequestHeader) -> Http2Request {
        Http2Request {
            head,
            body: self.body,
            responder: self.responder,
            upload: self.upload,
            is_tunnel: self.is_tunnel,
        }
    }

    /// A decoder for the body as [`poll_read`](Self::poll_read) returns it.
    pub(super) fn body_decoder(&self, request: RequestView<'_>) -> BodyDecoder {
        match self.chunked {
            true => BodyDecoder::chunked(),
            false => http_rules::request_body(request),
        }
    }

    /// Appends the next part of the body to `buffer`. An error once the client has given up.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut Buffer,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.is_read {
                // The end of one side of a tunnel is not the end of the other.
                return match self.is_tunnel {
                    true => Poll::Ready(Ok(0)),
                    false => self.poll_reset(context).map(Err),
                };
            }
            let Some(data) = ready!(self.body.poll_data(context)) else {
                if self.is_tunnel
                    && ready!(self.body.poll_trailers(context))
                        .map_err(to_io)?
                        .is_some()
                {
                    // Only DATA belongs on the stream of a tunnel, RFC 9113 8.5.
                    self.end_with(Reason::PROTOCOL_ERROR);
                    return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
                }
                self.is_read = true;
                if self.chunked {
                    buffer.extend_from_slice(chunked::LAST_CHUNK);
                    return Poll::Ready(Ok(chunked::LAST_CHUNK.len()));
                }
                continue;
            };
            let data = data.map_err(to_io)?;
            self.body
                .flow_control()
                .release_capacity(data.len())
                .map_err(to_io)?;
            if let Some(upload) = &self.upload {
                upload(data.len());
            }
            if data.is_empty() {
                continue;
            }
            let before = buffer.len();
            if self.chunked {
                let mut start = Vec::with_capacity(16);
                chunked::write_chunk_start(&mut start, data.len());
                buffer.extend_from_slice(&start);
                buffer.extend_from_slice(&data);
                buffer.extend_from_slice(chunked::CHUNK_END);
            } else {
                buffer.extend_from_slice(&data);
            }
            return Poll::Ready(Ok(buffer.len() - before));
        }
    }

    /// Waits for the client to give up.
    pub(super) fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let reset = match &mut self.sending {
            _ if self.response == ResponseState::Ended => return Poll::Pending,
            Some(sending) => sending.poll_reset(context),
            None => self.responder.poll_reset(context),
        };
        Poll::Ready(match ready!(reset) {
            Ok(_) => ErrorKind::ConnectionReset.into(),
            Err(error) => to_io(error),
        })
    }

    /// Sends a prefix of the concatenated `parts`, of which the first to be sent begins with a whole head.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        parts: [&[u8]; 2],
    ) -> Poll<io::Result<usize>> {
        let bytes = match parts {
            [[], bytes] | [bytes, _] => bytes,
        };
        match self.response {
            ResponseState::AwaitingHead => Poll::Ready(self.send_head(bytes)),
            ResponseState::Body(left) => self.poll_send_data(context, bytes, left),
            // The body of a response that has none.
            ResponseState::Ended => Poll::Ready(Ok(bytes.len())),
        }
    }

    /// Sends the head at the front of `bytes`; returns its length.
    fn send_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A route may add fields to those of the host.
        let read = self.head.read_response(bytes, 2 * MAX_FIELDS);
        let Ok(HeadProgress::Complete(length)) = read else {
            return Err(ErrorKind::InvalidData.into());
        };
        let bytes = &bytes[..length];
        let status =
            StatusCode::from_u16(self.head.status()).map_err(|_| ErrorKind::InvalidData)?;
        let response = self.frame_of(status, bytes)?;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            if self.informational.admits(length) {
                self.responder.send_informational(response).map_err(to_io)?;
            }
            return Ok(length);
        }
        let content_length = self.head.get(bytes, CONTENT_LENGTH.as_str());
        let content_length = content_length.and_then(framing::number);
        let is_bodiless = self.is_head_request
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || content_length == Some(0);
        let sending = self.responder.send_response(response, is_bodiless);
        self.sending = Some(sending.map_err(to_io)?);
        self.response = match is_bodiless {
            true => ResponseState::Ended,
            false => ResponseState::Body(content_length),
        };
        Ok(length)
    }

    /// The head in `bytes` without what HTTP/2 does not have. A tunnel begins with 200. Any other 2xx of the host becomes
    /// 501, because the client would take it for the begin of a tunnel.
    fn frame_of(&self, status: StatusCode, bytes: &[u8]) -> io::Result<Response<()>> {
        let is_accepted = status == StatusCode::SWITCHING_PROTOCOLS;
        let mut response = Response::new(());
        *response.status_mut() = match status {
            StatusCode::SWITCHING_PROTOCOLS => StatusCode::OK,
            status if status.is_success() && self.is_tunnel => StatusCode::NOT_IMPLEMENTED,
            status => status,
        };
        *response.version_mut() = Version::HTTP_2;
        let fields = response.headers_mut();
        fields.reserve(self.head.len());
        for field in self.head.fields(bytes) {
            let name = HeaderName::from_bytes(field.name).map_err(|_| ErrorKind::InvalidData)?;
            let is_dropped = CONNECTION_FIELDS.contains(&name)
                || (is_accepted && matches!(name, SEC_WEBSOCKET_ACCEPT | CONTENT_LENGTH));
            if !is_dropped {
                let value = HeaderValue::from_bytes(field.value);
                fields.append(name, value.map_err(|_| ErrorKind::InvalidData)?);
            }
        }
        Ok(response)
    }

    fn poll_send_data(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
        left: Option<u64>,
    ) -> Poll<io::Result<usize>> {
        let Some(sending) = &mut self.sending else {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        };
        let wanted = bytes.len().min(MAX_DATA);
        sending.reserve_capacity(wanted);
        let mut capacity = sending.capacity();
        while capacity == 0 {
            capacity = match ready!(sending.poll_capacity(context)) {
                Some(capacity) => capacity.map_err(to_io)?,
                None => return Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
            };
        }
        let count = wanted.min(capacity);
        let left = left.map(|left| left.saturating_sub(count as u64));
        let is_last = left == Some(0);
        let data = Bytes::copy_from_slice(&bytes[..count]);
        sending.send_data(data, is_last).map_err(to_io)?;
        self.response = match is_last {
            true => ResponseState::Ended,
            false => ResponseState::Body(left),
        };
        Poll::Ready(Ok(count))
    }

    /// Ends the response.
    pub(super) fn shut_down(&mut self) {
        if let (ResponseState::Body(_), Some(sending)) = (self.response, &mut self.sending) {
            // An error means that the client has given up.
            let _ = sending.send_data(Bytes::new(), true);
            self.response = ResponseState::Ended;
        }
    }

    /// Tells the client that the response is not complete.
    pub(super) fn reset(&mut self) {
        // A tunnel that breaks is cancelled, RFC 8441 5.
        let is_open = self.is_tunnel && self.sending.is_some();
        self.end_with(match is_open {
            true => Reason::CANCEL,
            false => Reason::INTERNAL_ERROR,
        });
    }

    /// Resets the stream, unless the response has ended.
    fn end_with(&mut self, reason: Reason) {
        if self.response != ResponseState::Ended {
            self.responder.send_reset(reason);
            self.response = ResponseState::Ended;
        }
    }
}

fn to_io(error: h2::Error) -> io::Error {
    match error.is_io() {
        true => error
            .into_io()
            .unwrap_or_else(|| ErrorKind::ConnectionReset.into()),
        false => io::Error::new(ErrorKind::ConnectionReset, error),
    }
}
