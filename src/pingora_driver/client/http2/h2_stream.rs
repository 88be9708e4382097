//! One request and its response on an HTTP/2 connection.

mod request_body;
mod response_writer;
mod session;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::header::CONTENT_LENGTH;
use http::{Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, Result};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::extended_connect::{self, Tunnel};
use super::h2_fields::empty_response;
use crate::http2_request::Http2Request;
use crate::pingora_driver::client::connection_state::{
    AbortReason, ConnectionState, DownstreamPeer,
};
use crate::proxy::grpc;
use request_body::RequestBody;
use response_writer::ResponseWriter;

/// A stream of the `h2` crate as the session of a request, with a timeout for the client's body, one for the host's
/// response head, and a response after a panic.
///
/// The proxy receives it as Pingora's custom session type. Pingora's own session of HTTP/2 has no such timeouts, and
/// drops informational responses.
pub(crate) struct H2Stream {
    request: RequestHeader,
    body: RequestBody,
    response: ResponseWriter,
    tunnel: Tunnel,
    state: Arc<ConnectionState>,
    digest: Arc<Digest>,
}

impl H2Stream {
    /// The session of a newly opened stream.
    pub(crate) fn new(request: Http2Request, peer: DownstreamPeer, digest: Arc<Digest>) -> Self {
        let state = Arc::new(ConnectionState::new(peer));
        let mut head = request.head;
        head.extensions_mut().insert(Arc::clone(&state));
        H2Stream {
            request: head,
            body: RequestBody::new(request.body, request.upload),
            response: ResponseWriter::new(request.responder),
            tunnel: match request.is_tunnel {
                true => Tunnel::Requested,
                false => Tunnel::None,
            },
            state,
            digest,
        }
    }

    /// The state of an HTTP/2 session; `None` for other sessions.
    pub(crate) fn state_of(session: &ServerSession) -> Option<&Arc<ConnectionState>> {
        session.as_custom()?;
        session.req_header().extensions.get()
    }

    pub(crate) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    /// Whether the request is complete. A tunnel is the end of the request and the beginning of a stream of bytes, which
    /// ends when both sides have ended: Pingora would take the end of one for the end of both.
    fn is_body_done(&mut self) -> bool {
        match self.tunnel {
            Tunnel::Requested => true,
            Tunnel::Open => self.response.is_ended() && self.body.is_done(),
            Tunnel::None => self.body.is_done(),
        }
    }

    /// Reads the next part of the body, or with `idle` waits for the end of the stream, which only the client can cause
    /// then.
    async fn read(&mut self, idle: bool) -> Result<Option<Bytes>> {
        loop {
            if self.awaits_host_end() {
                self.pass_on_client_end().await?;
            }
            match self.read_part(idle).await {
                Ok(None) if self.awaits_host_end() => {}
                outcome => return outcome,
            }
        }
    }

    async fn read_part(&mut self, idle: bool) -> Result<Option<Bytes>> {
        let idle = idle || self.is_body_done();
        let call_deadline = self.state.call_deadline();
        let deadline = match idle {
            true => self.state.response_deadline(),
            false => {
                let limit = self.silence_limit();
                self.body.deadline(limit)
            }
        };
        let deadline = deadline.into_iter().chain(call_deadline).min();
        let awaits_reset = idle || self.awaits_host_end();
        let (body, response) = (&mut self.body, &mut self.response);
        let outcome = poll_fn(|context| {
            let polled = match awaits_reset {
                true => response
                    .poll_reset(context)
                    .map(|reason| Err(reason?.into())),
                false => body.poll_part(context),
            };
            match polled {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending if deadline.is_some_and(|time| body.is_late(time, context)) => {
                    Poll::Ready(None)
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        self.end_client_wait();
        match outcome {
            Some(Ok(part)) => Ok(part),
            // The client does not use its side of a tunnel that the host has ended.
            Some(Err(_)) if self.tunnel == Tunnel::Open && self.response.is_ended() => {
                self.body.abandon();
                Ok(None)
            }
            Some(Err(error)) => {
                self.state.abort(AbortReason::ClientGone);
                let cancelled = "the client has cancelled the request";
                Err(Error::because(ErrorType::ConnectionClosed, cancelled, error).into_down())
            }
            None if call_deadline.is_some_and(|time| time <= Instant::now()) => {
                Err(grpc::deadline_error())
            }
            None if awaits_reset => {
                self.state.note_host_timeout();
                let late = "the host has not responded";
                Err(Error::explain(ErrorType::ReadTimedout, late).into_down())
            }
            None => {
                let late = "the client does not send the body";
                Err(Error::explain(ErrorType::ReadTimedout, late).into_down())
            }
        }
    }

    /// The client has ended its side of a tunnel.
    async fn pass_on_client_end(&mut self) -> Result<()> {
        if self.body.has_trailers() {
            // Only DATA belongs on the stream of a tunnel, RFC 9113 8.5.
            self.response.reset(Reason::PROTOCOL_ERROR);
            let trailers = "the client sent trailers in a tunnel";
            return Err(Error::explain(ErrorType::ReadError, trailers).into_down());
        }
        if self.state.tunnel().note_client_end(self.body.bytes_read()) {
            // This task also polls the socket of the host, which shuts down then.
            yield_now().await;
        }
        Ok(())
    }

    /// Whether the client has ended its side of a tunnel, and the host has not.
    fn awaits_host_end(&mut self) -> bool {
        self.tunnel == Tunnel::Open && self.body.is_done() && !self.response.is_ended()
    }

    /// How long the client may be silent, or the host after the client's end of a tunnel.
    fn silence_limit(&mut self) -> Option<Duration> {
        if self.tunnel == Tunnel::Open && (self.response.is_ended() || self.body.is_done()) {
            return self.state.tunnel().half_closed_timeout();
        }
        self.body.read_timeout
    }

    /// Ends the wait for the client. In a tunnel it owes nothing.
    fn end_client_wait(&mut self) {
        let waited = self.body.end_wait();
        if self.tunnel != Tunnel::Open {
            self.state.add_client_wait(waited);
        }
    }

    /// Sends the head of a response. A tunnel begins with 200, and with any other 2xx the client would take for one what
    /// is none.
    fn write_head(&mut self, mut head: Box<ResponseHeader>, end: bool) -> Result<()> {
        let end = end || self.ends_with_head(&head);
        if self.tunnel == Tunnel::Requested {
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                extended_connect::accept(&mut head)?;
                self.tunnel = Tunnel::Open;
                self.body.keep_nothing();
                return self.response.write_tunnel_head(head);
            }
            if head.status.is_success() {
                let refusal = empty_response(StatusCode::NOT_IMPLEMENTED);
                return self.response.write_head(refusal, true);
            }
        }
        self.response.write_head(head, end)
    }

    /// Whether the response ends with this head. Pingora's callers do not say so for the local responses.
    fn ends_with_head(&self, head: &ResponseHeader) -> bool {
        let length = head.headers.get(CONTENT_LENGTH);
        self.request.method == Method::HEAD
            || length.is_some_and(|length| length.as_bytes() == b"0")
    }

    /// A part of the response has been passed on since `began`. The host cannot be late for this time, and a client that
    /// waits for answers before it sends more is not slow.
    fn note_progress(&mut self, began: Instant) {
        self.state.extend_response_deadline(began.elapsed());
        self.end_client_wait();
    }

    /// Records whether the client has received a response head.
    fn note_write<T>(&self, outcome: Result<T>) -> Result<T> {
        if self.response.written().is_some() {
            self.state.note_response_started();
        } else if outcome.is_err() {
            self.state.abort(AbortReason::ClientGone);
        }
        outcome
    }

    /// Gives up the stream, unless the response is complete. A tunnel that breaks is cancelled, RFC 8441 5.
    fn give_up(&mut self) {
        self.response.reset(match self.tunnel {
            Tunnel::Open => Reason::CANCEL,
            _ => Reason::INTERNAL_ERROR,
        });
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        if thread::panicking() && self.response.written().is_none() {
            let failed = empty_response(StatusCode::INTERNAL_SERVER_ERROR);
            let _ = self.response.write_head(failed, true);
        }
        self.give_up();
    }
}
