//! What comes from the host: heads, the body, and its silence.

use std::task::{Context, Poll};

use http::{StatusCode, Version};
use pingora::{Error, ErrorType, Result};
use tokio::time::Instant;

use super::{Down, Relay};
use crate::engine::answering;
use crate::engine::buffer::SMALL;
use crate::message::body::Body;
use crate::message::head::{HeadError, MOST_FIELDS, Progress};
use crate::message::{FieldsView, ResponseView, chunks};
use crate::proxy::answer::Connection;
use crate::proxy::{rules, sticky};

impl Relay<'_> {
    /// The host's connection broke.
    pub(super) fn unanswered(&mut self, error: std::io::Error) -> Box<Error> {
        match self.upload.broken.take() {
            Some(broken) if matches!(self.state.down, Down::Head) => broken,
            _ => Error::because(ErrorType::ReadError, "the answer", error).into_up(),
        }
    }

    /// The host sends no more.
    pub(super) fn host_ended(&mut self) -> Result<()> {
        match &mut self.state.down {
            Down::Body(body @ Body::UntilClose) => {
                *body = Body::Length(0);
                if self.state.chunked {
                    self.room.staged.extend_from_slice(chunks::END);
                }
                Ok(())
            }
            _ => {
                let ended = "the host has closed the connection before the end of its answer";
                Err(match self.upload.broken.take() {
                    Some(broken) if matches!(self.state.down, Down::Head) => broken,
                    _ => Error::explain(ErrorType::ConnectionClosed, ended).into_up(),
                })
            }
        }
    }

    /// The host is waited for, as long as it may take.
    pub(super) fn wait_for_host(&mut self, context: &mut Context<'_>) -> Result<Poll<()>> {
        let owes = match self.state.down {
            Down::Head => self.state.asked || self.upload.broken.is_some(),
            _ => true,
        };
        if !owes {
            return Ok(Poll::Pending);
        }
        let limit = self.ctx.site.timeouts.read;
        let since = || match self.state.down {
            Down::Head => Instant::from_std(self.ctx.started),
            _ => Instant::now(),
        };
        let by = *self.state.answer_by.get_or_insert_with(|| since() + limit);
        if self.client.alarm.rings(by, context) {
            let late = "the answer did not come in time";
            return Err(Error::explain(ErrorType::ReadTimedout, late).into_up());
        }
        Ok(Poll::Pending)
    }

    /// Takes what has come of the answer's body.
    pub(super) fn take_body(&mut self) -> Result<()> {
        let Down::Body(body) = &mut self.state.down else {
            return Ok(());
        };
        let bytes = self.inbound.filled();
        let malformed = |_| {
            let what = "the host's chunks are malformed";
            Error::explain(ErrorType::InvalidHTTPHeader, what).into_up()
        };
        let staged = &mut self.room.staged;
        match body {
            Body::Chunked(chunked) => {
                let mut at = 0;
                while at < bytes.len() && !chunked.is_over() {
                    let piece = chunked.next_data(&bytes[at..]).map_err(malformed)?;
                    let data = &bytes[at..][piece.data];
                    at += piece.consumed;
                    if data.is_empty() {
                        continue;
                    }
                    self.state.sent += data.len() as u64;
                    put(staged, data, self.state.chunked);
                }
                if chunked.is_over() && self.state.chunked {
                    staged.extend_from_slice(chunks::END);
                }
                self.inbound.consume(at);
            }
            Body::UntilClose if self.state.chunked => {
                self.state.sent += bytes.len() as u64;
                put(staged, bytes, true);
                self.inbound.consume(bytes.len());
            }
            body => {
                self.state.raw = body.take(bytes).map_err(malformed)?;
                self.state.sent += self.state.raw as u64;
            }
        }
        Ok(())
    }

    /// Takes the head of an answer; `false`: it has not come whole.
    pub(super) fn take_head(&mut self) -> Result<bool> {
        let bytes = self.inbound.filled();
        let refuse = |why| Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
        let length = match self.room.head.read_response(bytes, MOST_FIELDS) {
            Ok(Progress::Complete(length)) => length,
            Ok(Progress::Partial) if bytes.len() > 2 * self.ctx.site.limits.head + SMALL => {
                return refuse("the head of the host's answer is too large");
            }
            Ok(Progress::Partial) => return Ok(false),
            Err(HeadError::TooManyFields) => {
                return refuse("the host's answer has too many header fields");
            }
            Err(_) => return refuse("the host's answer is malformed"),
        };
        let head = &self.room.head;
        let bytes = &bytes[..length];
        let Ok(status) = StatusCode::from_u16(head.status()) else {
            return refuse("the host's answer has a status that does not exist");
        };
        let response = ResponseView {
            status,
            version: head.version().into(),
            fields: FieldsView::Head(head, bytes),
        };
        let site = &self.ctx.site;
        let said = rules::judge_answer(response, self.ctx.upgrade.as_deref(), &site.limits)?;
        let switched = status == StatusCode::SWITCHING_PROTOCOLS;
        if switched && !self.upload.is_done() {
            // What the client sends next would be taken for the other protocol.
            return refuse("the host switched protocols amid the request");
        }
        if status.is_informational() && !switched {
            // HTTP/1.0 does not know them.
            if self.request.version == Version::HTTP_11 {
                let told = (false, None);
                let (via, additions) = (site.via.as_ref(), &mut self.room.additions);
                let staged = &mut self.room.staged;
                let head = (head, bytes);
                answering::write_head(staged, head, response, said, told, (via, None), additions)?;
            }
            self.inbound.consume(length);
            return Ok(true);
        }
        self.state.answer_by = None;
        self.ctx.answered(status.as_u16());
        if self.ctx.is_failure(status) {
            let replayable = self.upload.is_replayable();
            let sent = self.ctx.sent(self.request, replayable, false);
            if self.ctx.give_up(self.request, sent) {
                let status = ErrorType::HTTPStatus(status.as_u16());
                return Err(Error::explain(status, "another host is asked").into_up());
            }
        }
        let cookie = sticky::set_cookie(self.request, self.tls, self.ctx);
        let framing =
            answering::Framing::of(response, said, self.request.method, self.request.version);
        // A client that has not sent all of its request by now need not send the rest.
        self.keep &= !switched
            && !framing.until_close
            && self.upload.is_whole()
            && !self.ctx.presence.is_draining();
        let connection = (!switched).then(|| Connection::kept(self.keep));
        let site = &self.ctx.site;
        answering::write_head(
            &mut self.room.staged,
            (head, bytes),
            response,
            said,
            (framing.chunked, connection),
            (site.via.as_ref(), cookie.as_deref()),
            &mut self.room.additions,
        )?;
        self.inbound.consume(length);
        self.state.status = Some(status);
        self.state.chunked = framing.chunked;
        self.state.reusable = framing.reusable;
        if switched {
            // What follows is no body.
            self.state.down = Down::Flush;
            return Ok(true);
        }
        self.state.down = Down::Body(framing.body);
        if !self.inbound.is_empty() {
            // It goes out with the head, in one write.
            if let Err(malformed) = self.take_body() {
                // Nothing of it has gone out, so that there can be another answer.
                self.room.staged.clear();
                self.state.status = None;
                self.state.sent = 0;
                return Err(malformed);
            }
        }
        Ok(true)
    }
}

/// Appends data of a body.
fn put(staged: &mut Vec<u8>, data: &[u8], chunked: bool) {
    if chunked {
        chunks::begin(staged, data.len());
    }
    staged.extend_from_slice(data);
    if chunked {
        staged.extend_from_slice(chunks::BEHIND_DATA);
    }
}
