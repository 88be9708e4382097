//! The response on an HTTP/2 stream.

use std::future::poll_fn;
use std::mem;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::DATE;
use http::{HeaderMap, Response, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::date::get_cached_date;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::time::Instant;

use crate::deadline_timer::DeadlineTimer;
use crate::http2_request::{CONNECTION_FIELDS, InformationalSize};
use crate::message::framing;

/// Sends one response, and informational ones before it.
pub(super) struct ResponseWriter {
    responder: Responder,
    /// The status of the response, once its head is sent.
    written: Option<ResponseHeader>,
    /// Whether END_STREAM or RST_STREAM is sent.
    is_ended: bool,
    bytes_sent: usize,
    informational: InformationalSize,
    pub(super) write_timeout: Option<Duration>,
    timer: DeadlineTimer,
}

enum Responder {
    Head(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
}

impl ResponseWriter {
    pub(super) fn new(responder: SendResponse<Bytes>) -> Self {
        ResponseWriter {
            responder: Responder::Head(responder),
            written: None,
            is_ended: false,
            bytes_sent: 0,
            informational: InformationalSize::default(),
            write_timeout: None,
            timer: DeadlineTimer::default(),
        }
    }

    /// The head that was sent, without its fields.
    pub(super) fn written(&self) -> Option<&ResponseHeader> {
        self.written.as_ref()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Bytes of the body that were sent.
    pub(super) fn bytes_sent(&self) -> usize {
        self.bytes_sent
    }

    /// Resolves when the client resets the stream.
    pub(super) fn poll_reset(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Reason, h2::Error>> {
        match &mut self.responder {
            Responder::Head(responder) => responder.poll_reset(context),
            Responder::Body(writer) => writer.poll_reset(context),
        }
    }

    /// Sends a head. An informational one is followed by others. Without effect after the head of the response.
    pub(super) fn write_head(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        match head.status.is_informational() {
            true => self.write_informational(head),
            false => {
                let status = head.status;
                self.write_final_head(head, status, end)
            }
        }
    }

    /// Sends the head that begins a tunnel. It counts as a 101, as in HTTP/1.1.
    pub(super) fn write_tunnel_head(&mut self, head: Box<ResponseHeader>) -> Result<()> {
        self.write_final_head(head, StatusCode::SWITCHING_PROTOCOLS, false)
    }

    fn write_informational(&mut self, mut head: Box<ResponseHeader>) -> Result<()> {
        let Responder::Head(responder) = &mut self.responder else {
            return Ok(());
        };
        if self.is_ended || head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        drop_connection_fields(&mut head);
        let fields = head.headers.iter();
        let fields = fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        if !self.informational.admits(framing::wire_size(fields)) {
            return Ok(());
        }
        let head = Response::from_parts((*head).into(), ());
        let sent = responder.send_informational(head);
        sent.or_err(ErrorType::WriteError, "sending an informational response")
            .map_err(Error::into_down)
    }

    fn write_final_head(
        &mut self,
        mut head: Box<ResponseHeader>,
        status: StatusCode,
        end: bool,
    ) -> Result<()> {
        let Responder::Head(responder) = &mut self.responder else {
            return Ok(());
        };
        if self.is_ended {
            return Ok(());
        }
        if !head.headers.contains_key(DATE) {
            // RFC 9110 6.6.1: a recipient with a clock adds a missing Date.
            head.insert_header(DATE, get_cached_date())?;
        }
        drop_connection_fields(&mut head);
        let head = Response::from_parts((*head).into(), ());
        let sent = responder.send_response(head, end);
        let writer = sent
            .or_err(ErrorType::WriteError, "sending the head of a response")
            .map_err(Error::into_down)?;
        self.responder = Responder::Body(writer);
        self.written = Some(ResponseHeader::build_no_case(status, Some(0))?);
        self.is_ended = end;
        Ok(())
    }

    /// Sends a part of the body, within the write timeout; waits for the client to open its window. Without effect after
    /// the end.
    pub(super) async fn write_body(&mut self, mut data: Bytes, end: bool) -> Result<()> {
        if self.is_ended {
            return Ok(());
        }
        // One deadline for all of it: buffers of the connection take a little now and then from a client that reads
        // nothing.
        let mut deadline = None;
        loop {
            let piece = match data.is_empty() {
                true => Bytes::new(),
                false => {
                    let room = self.wait_for_room(data.len(), &mut deadline).await?;
                    data.split_to(room.min(data.len()))
                }
            };
            let is_last = data.is_empty();
            let length = piece.len();
            self.writer()?
                .send_data(piece, is_last && end)
                .or_err(ErrorType::WriteError, "sending a part of a response")
                .map_err(Error::into_down)?;
            self.bytes_sent += length;
            if is_last {
                self.is_ended = end;
                return Ok(());
            }
        }
    }

    /// Waits until at least one byte of `wanted` may be sent. `deadline` is set by the first wait.
    async fn wait_for_room(
        &mut self,
        wanted: usize,
        deadline: &mut Option<Instant>,
    ) -> Result<usize> {
        let limit = self.write_timeout;
        self.writer()?.reserve_capacity(wanted);
        let timer = &mut self.timer;
        let Responder::Body(writer) = &mut self.responder else {
            return Err(no_head());
        };
        let room = poll_fn(|context| {
            loop {
                // The capacity may be there already, of which polling does not tell twice.
                let room = writer.capacity();
                if room > 0 {
                    return Poll::Ready(Ok(Some(room)));
                }
                match writer.poll_capacity(context) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(None)),
                    Poll::Pending => break,
                }
            }
            let is_late = limit.is_some_and(|limit| {
                let time = *deadline.get_or_insert_with(|| Instant::now() + limit);
                timer.has_elapsed(time, context)
            });
            match is_late {
                true => Poll::Ready(Ok(Some(0))),
                false => Poll::Pending,
            }
        });
        match room.await {
            Ok(Some(0)) => {
                let slow = "the client does not read the response";
                Err(Error::explain(ErrorType::WriteTimedout, slow).into_down())
            }
            Ok(Some(room)) => Ok(room),
            Ok(None) => {
                let closed = "the client has closed the stream";
                Err(Error::explain(ErrorType::ConnectionClosed, closed).into_down())
            }
            Err(error) => {
                let failed = "waiting for the client to read";
                Err(Error::because(ErrorType::H2Error, failed, error).into_down())
            }
        }
    }

    /// Ends the response with trailers.
    pub(super) fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        if self.is_ended {
            return Ok(());
        }
        self.writer()?
            .send_trailers(trailers)
            .or_err(ErrorType::WriteError, "sending trailers")
            .map_err(Error::into_down)?;
        self.is_ended = true;
        Ok(())
    }

    /// Ends the response, if it has begun and not ended.
    pub(super) fn finish(&mut self) -> Result<()> {
        match &mut self.responder {
            Responder::Body(writer) if !mem::replace(&mut self.is_ended, true) => writer
                .send_data(Bytes::new(), true)
                .or_err(ErrorType::WriteError, "ending a response")
                .map_err(Error::into_down),
            _ => Ok(()),
        }
    }

    /// Resets the stream, unless the response has ended.
    pub(super) fn reset(&mut self, reason: Reason) {
        if mem::replace(&mut self.is_ended, true) {
            return;
        }
        match &mut self.responder {
            Responder::Head(responder) => responder.send_reset(reason),
            Responder::Body(writer) => writer.send_reset(reason),
        }
    }

    fn writer(&mut self) -> Result<&mut SendStream<Bytes>> {
        match &mut self.responder {
            Responder::Body(writer) => Ok(writer),
            Responder::Head(_) => Err(no_head()),
        }
    }
}

fn no_head() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "a body without a head")
}

/// Removes the fields that HTTP/2 does not permit, RFC 9113 8.2.2.
fn drop_connection_fields(head: &mut ResponseHeader) {
    for name in &CONNECTION_FIELDS {
        head.remove_header(name);
    }
}
