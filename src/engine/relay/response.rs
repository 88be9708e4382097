//! The response from the host: its heads, its body and its timeout.

use std::task::{Context, Poll};

use http::{StatusCode, Version};
use pingora::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::{Relay, ResponseState};
use crate::engine::buffer::SMALL_SIZE;
use crate::engine::header_edits::EditedHead;
use crate::engine::response_head;
use crate::message::body_decoder::BodyDecoder;
use crate::message::head::{HeadError, HeadProgress, MAX_FIELDS};
use crate::message::{FieldsView, Malformed, ResponseView, chunked};
use crate::proxy::compression::ResponseFacts;
use crate::proxy::http_rules;
use crate::proxy::local_message::Persistence;
use crate::proxy::selection::sticky;

impl Relay<'_> {
    /// The error for a broken host connection. An earlier write error is the better reason if no response came.
    pub(super) fn read_error(&mut self, error: std::io::Error) -> Box<Error> {
        match self.sender.write_error.take() {
            Some(write_error) if matches!(self.state.down, ResponseState::AwaitingHead) => {
                write_error
            }
            _ => Error::because(ErrorType::ReadError, "the response", error).into_up(),
        }
    }

    /// Handles the end of the host's connection, which is an error unless it ends the body.
    pub(super) fn host_closed(&mut self) -> Result<()> {
        match &mut self.state.down {
            ResponseState::ReceivingBody(body @ BodyDecoder::UntilClose) => {
                *body = BodyDecoder::Length(0);
                if self.ctx.compressor.is_some() {
                    self.finish_compression()?;
                } else if self.state.chunked {
                    self.buffers
                        .outgoing
                        .staged
                        .extend_from_slice(chunked::LAST_CHUNK);
                }
                Ok(())
            }
            _ => {
                let ended = "the host has closed the connection before the end of its response";
                Err(match self.sender.write_error.take() {
                    Some(write_error) if matches!(self.state.down, ResponseState::AwaitingHead) => {
                        write_error
                    }
                    _ => Error::explain(ErrorType::ConnectionClosed, ended).into_up(),
                })
            }
        }
    }

    /// Waits for the host, up to the read timeout. The timeout runs only while the host owes bytes: before the response
    /// head that is after the whole request was sent.
    pub(super) fn wait_for_host(&mut self, context: &mut Context<'_>) -> Result<Poll<()>> {
        let is_due = match self.state.down {
            ResponseState::AwaitingHead => {
                self.state.request_sent || self.sender.write_error.is_some()
            }
            _ => true,
        };
        if !is_due {
            return Ok(Poll::Pending);
        }
        let limit = self.ctx.timeouts().read;
        let wait_began = || match self.state.down {
            ResponseState::AwaitingHead => Instant::from_std(self.ctx.attempt_started),
            _ => Instant::now(),
        };
        let deadline = *self
            .state
            .response_deadline
            .get_or_insert_with(|| wait_began() + limit);
        if self.client.timer.has_elapsed(deadline, context) {
            let late = "the response did not come in time";
            return Err(Error::explain(ErrorType::ReadTimedout, late).into_up());
        }
        Ok(Poll::Pending)
    }

    /// Consumes received body bytes: stages them, or marks them as pass-through.
    pub(super) fn take_body(&mut self) -> Result<()> {
        if self.ctx.compressor.is_some() {
            return self.compress_body();
        }
        let ResponseState::ReceivingBody(body) = &mut self.state.down else {
            return Ok(());
        };
        let bytes = self.inbound.filled();
        let outgoing = &mut self.buffers.outgoing;
        match body {
            BodyDecoder::Chunked(chunked) => {
                let mut consumed = 0;
                while consumed < bytes.len() && !chunked.is_finished() {
                    let piece = chunked.next_data(&bytes[consumed..]).map_err(malformed)?;
                    let data = &bytes[consumed..][piece.data];
                    consumed += piece.consumed;
                    if data.is_empty() {
                        continue;
                    }
                    self.state.sent += data.len() as u64;
                    append_data(&mut outgoing.staged, data, self.state.chunked);
                }
                if chunked.is_finished() && self.state.chunked {
                    outgoing.staged.extend_from_slice(chunked::LAST_CHUNK);
                }
                self.inbound.consume(consumed);
            }
            BodyDecoder::UntilClose if self.state.chunked => {
                self.state.sent += bytes.len() as u64;
                append_data(&mut outgoing.staged, bytes, true);
                self.inbound.consume(bytes.len());
            }
            body => {
                outgoing.passthrough = body.take(bytes).map_err(malformed)?;
                self.state.sent += outgoing.passthrough as u64;
            }
        }
        Ok(())
    }

    /// Parses a response head and stages the client's version of it; `false` if the head is not complete.
    pub(super) fn take_head(&mut self) -> Result<bool> {
        let bytes = self.inbound.filled();
        let refuse = |why| Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
        let length = match self.buffers.head.read_response(bytes, MAX_FIELDS) {
            Ok(HeadProgress::Complete(length)) => length,
            Ok(HeadProgress::Partial)
                if bytes.len() > 2 * self.ctx.active.limits.head + SMALL_SIZE =>
            {
                return refuse("the head of the host's response is too large");
            }
            Ok(HeadProgress::Partial) => return Ok(false),
            Err(HeadError::TooManyFields) => {
                return refuse("the host's response has too many header fields");
            }
            Err(_) => return refuse("the host's response is malformed"),
        };
        let head = &self.buffers.head;
        let bytes = &bytes[..length];
        let Ok(status) = StatusCode::from_u16(head.status()) else {
            return refuse("the host's response has a status that does not exist");
        };
        let response = ResponseView {
            status,
            version: head.version().into(),
            fields: FieldsView::Parsed(head, bytes),
        };
        let active = &self.ctx.active;
        let content_length =
            http_rules::validate_response(response, self.ctx.upgrade.as_deref(), &active.limits)?;
        let switched = status == StatusCode::SWITCHING_PROTOCOLS;
        if switched && !self.sender.is_sent() {
            // The rest of the request body would be read as the new protocol.
            return refuse("the host switched protocols before the end of the request");
        }
        if switched
            && self.request.version == Version::HTTP_2
            && !http_rules::is_websocket_accepted(self.request.fields, response.fields)
        {
            return refuse("the host's Sec-WebSocket-Accept is missing or wrong");
        }
        if status.is_informational() && !switched {
            // HTTP/1.0 has no informational responses.
            if self.request.version >= Version::HTTP_11 {
                let added = (active.via.as_ref(), None, None);
                let edits = &mut self.buffers.edits;
                response_head::edit_head(response, content_length, added, edits)?;
                let staged = &mut self.buffers.outgoing.staged;
                let framing = (false, None);
                response_head::write_head(staged, (head, bytes), response, framing, None, edits);
            }
            self.inbound.consume(length);
            return Ok(true);
        }
        self.state.response_deadline = None;
        let judged = status.as_u16();
        self.ctx.response_head_received(judged, judged);
        if self.ctx.is_retryable_status(status) {
            let replayable = self.sender.is_replayable();
            let sent = self.ctx.sent_request(self.request, replayable, false);
            if self.ctx.abandon_attempt(self.request, sent) {
                let status = ErrorType::HTTPStatus(status.as_u16());
                return Err(Error::explain(status, "another host is asked").into_up());
            }
        }
        let cookie = sticky::set_cookie(self.request, self.tls, self.ctx);
        let framing = response_head::ResponseFraming::new(
            response,
            content_length,
            self.request.method,
            self.request.version,
        );
        // If the request is not complete by now, the client need not send the rest: the connection closes instead.
        self.keep_alive &= !switched
            && !framing.until_close
            && self.sender.is_complete()
            && !self.ctx.in_flight.is_draining();
        let connection = (!switched).then(|| Persistence::from_keep_alive(self.keep_alive));
        let active = &self.ctx.active;
        let route = match switched {
            true => None,
            false => self.ctx.response_edits(self.request, self.tls),
        };
        let edits = &mut self.buffers.edits;
        let added = (active.via.as_ref(), cookie.as_deref(), route.as_ref());
        response_head::edit_head(response, content_length, added, edits)?;
        let facts = ResponseFacts {
            status,
            length: framing.length,
        };
        let received = response.fields;
        let compressor = {
            let mut head = EditedHead { received, edits };
            self.ctx.compress_response(self.request, facts, &mut head)?
        };
        let chunked =
            framing.chunked || (compressor.is_some() && self.request.version == Version::HTTP_11);
        response_head::write_head(
            &mut self.buffers.outgoing.staged,
            (head, bytes),
            response,
            (chunked, connection),
            route,
            &self.buffers.edits,
        );
        self.ctx.compressor = compressor;
        self.inbound.consume(length);
        self.state.status = Some(status);
        self.state.chunked = chunked;
        self.state.reusable = framing.reusable;
        if switched {
            // The new protocol follows, not a body.
            self.state.down = ResponseState::Flushing;
            return Ok(true);
        }
        self.state.down = ResponseState::ReceivingBody(framing.body);
        if !self.inbound.is_empty() {
            // Body bytes that came with the head go out with it in one write.
            if let Err(malformed) = self.take_body() {
                // Nothing was sent yet, so an error response is still possible.
                self.buffers.outgoing.staged.clear();
                self.state.status = None;
                self.state.sent = 0;
                return Err(malformed);
            }
        }
        Ok(true)
    }
}

/// The error for a body of a host that is not what it should be.
pub(super) fn malformed(_: Malformed) -> Box<Error> {
    let what = "the host's chunks are malformed";
    Error::explain(ErrorType::InvalidHTTPHeader, what).into_up()
}

/// Appends body data, as a chunk if `chunked`.
pub(super) fn append_data(staged: &mut Vec<u8>, data: &[u8], chunked: bool) {
    if chunked {
        chunked::write_chunk_start(staged, data.len());
    }
    staged.extend_from_slice(data);
    if chunked {
        staged.extend_from_slice(chunked::CHUNK_END);
    }
}
