//! One request and its response on an HTTP/2 connection.

mod session;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, RETRY_AFTER};
use http::{Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::{Error, ErrorType, Result};
use tokio::time::{Instant, timeout_at};

use super::h2_fields::{empty_response, has_zero_length, join_cookies, set_zero_length};
use super::path_rewriter::restore_path;
use super::upload_windows::UploadGuard;
use crate::deadline_timer::DeadlineTimer;
use crate::pingora_driver::client::connection_state::{
    AbortReason, ConnectionState, DownstreamPeer,
};
use crate::proxy::grpc;
use crate::record::TerminationReason;

/// Wraps Pingora's session of an HTTP/2 stream and adds what it lacks compared with HTTP/1.1: a timeout for the
/// client's body, one for the host's response head, and a response after a panic.
///
/// The proxy receives it as Pingora's custom session type, because that type allows this module to intercept reads.
pub(crate) struct H2Stream {
    inner: HttpSession,
    state: Arc<ConnectionState>,
    /// `None` for a request without a body.
    upload: Option<UploadGuard>,
    read_timeout: Option<Duration>,
    /// When the current wait for the client's body began.
    body_wait_since: Option<Instant>,
    timer: DeadlineTimer,
    /// Whether the request has a valid path.
    is_well_formed: bool,
    /// Whether the request has `Content-Length: 0` while its stream is still open.
    awaits_empty_end: bool,
}

impl H2Stream {
    /// Wraps the session of a newly opened stream. Joins the Cookie fields as HTTP/1.1 requires, RFC 9113 8.2.3.
    pub(crate) fn new(mut inner: HttpSession, peer: DownstreamPeer) -> Self {
        let state = Arc::new(ConnectionState::new(peer));
        let request = inner.req_header_mut();
        let is_well_formed = restore_path(request).is_ok();
        join_cookies(request);
        request.extensions_mut().insert(Arc::clone(&state));
        let awaits_empty_end = has_zero_length(request) && {
            // Pingora would treat the body as empty because of this field alone.
            request.remove_header(&CONTENT_LENGTH);
            let awaits_empty_end = !inner.is_body_empty();
            if !awaits_empty_end {
                set_zero_length(inner.req_header_mut());
            }
            awaits_empty_end
        };
        H2Stream {
            inner,
            state,
            upload: None,
            read_timeout: None,
            body_wait_since: None,
            timer: DeadlineTimer::default(),
            is_well_formed,
            awaits_empty_end,
        }
    }

    pub(crate) fn is_well_formed(&self) -> bool {
        self.is_well_formed
    }

    /// Whether the request must wait for [`Self::wait_for_empty_end`] to confirm that its body is empty, RFC 9113
    /// 8.1.1.
    pub(crate) fn awaits_empty_end(&self) -> bool {
        self.awaits_empty_end
    }

    /// Waits for the end of a body with Content-Length 0. `Err`: the body is not empty, or its end does not arrive in
    /// time.
    pub(crate) async fn wait_for_empty_end(
        &mut self,
        limit: Duration,
    ) -> Result<(), TerminationReason> {
        let deadline = Instant::now() + limit;
        loop {
            match timeout_at(deadline, self.inner.read_body_bytes()).await {
                Err(_) => return Err(TerminationReason::ClientTimeout),
                Ok(Err(error)) => {
                    let is_malformed = matches!(
                        error.root_cause().downcast_ref::<h2::Error>(),
                        Some(error) if error.is_library()
                    );
                    return Err(match is_malformed {
                        true => TerminationReason::BadRequest,
                        false => TerminationReason::ClientGone,
                    });
                }
                Ok(Ok(Some(part))) if !part.is_empty() => {
                    return Err(TerminationReason::BadRequest);
                }
                Ok(Ok(_)) if self.inner.is_body_empty() => break,
                Ok(Ok(None)) => break,
                Ok(Ok(Some(_))) => {}
            }
        }
        self.awaits_empty_end = false;
        set_zero_length(self.inner.req_header_mut());
        Ok(())
    }

    /// Ends a stream whose body did not turn out to be empty. Returns the status of the response, if one is sent.
    pub(crate) fn reject(self, termination: TerminationReason) -> Option<u16> {
        let status = match termination {
            TerminationReason::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
            TerminationReason::BadRequest => StatusCode::BAD_REQUEST,
            _ => return None,
        };
        self.respond_with_status(status).then_some(status.as_u16())
    }

    /// The state of an HTTP/2 session; `None` for other sessions.
    pub(crate) fn state_of(session: &ServerSession) -> Option<&Arc<ConnectionState>> {
        session.as_custom()?;
        session.req_header().extensions.get()
    }

    pub(crate) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    pub(crate) fn request(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    /// Whether a body follows.
    pub(crate) fn has_body(&mut self) -> bool {
        !self.inner.is_body_done()
    }

    /// Reports every part of the body to `upload`.
    pub(crate) fn track_upload(&mut self, upload: UploadGuard) {
        self.upload = Some(upload);
    }

    /// Ends the stream with a response that has no body, which needs no flow-control window. `false`: the stream has
    /// already ended.
    pub(crate) fn respond_with_status(mut self, status: StatusCode) -> bool {
        let mut head = empty_response(status);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            head.insert_header(RETRY_AFTER, 1)
                .expect("a number is a valid value");
        }
        self.inner.write_response_header(head, true).is_ok()
    }

    /// Rejects the stream without processing it, so the client may retry the request.
    pub(crate) fn refuse(mut self) {
        let refused = h2::Reason::REFUSED_STREAM;
        self.inner.shutdown_with_reason(refused);
    }

    /// Reads the next part of the body, or with `idle` waits for the end of the stream, which only the client can cause
    /// then.
    async fn read(&mut self, idle: bool) -> Result<Option<Bytes>> {
        loop {
            match self.read_part(idle).await {
                // An empty frame is valid, but Pingora would take it for the end of the body, or for a second end after
                // it.
                Ok(Some(part)) if part.is_empty() => {
                    if self.inner.is_body_done() {
                        return Ok(None);
                    }
                }
                outcome => return outcome,
            }
        }
    }

    async fn read_part(&mut self, idle: bool) -> Result<Option<Bytes>> {
        let idle = idle || self.inner.is_body_done();
        let deadline = match (idle, self.read_timeout) {
            (true, _) => self.state.response_deadline(),
            (false, limit) => {
                let since = *self.body_wait_since.get_or_insert_with(Instant::now);
                limit.map(|limit| since + limit)
            }
        };
        let call_deadline = self.state.call_deadline();
        let deadline = deadline.into_iter().chain(call_deadline).min();
        let timer = &mut self.timer;
        let mut reading = pin!(self.inner.read_body_or_idle(idle));
        let outcome = poll_fn(|context| match reading.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if deadline.is_some_and(|time| timer.has_elapsed(time, context)) => {
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        })
        .await;
        if let Some(since) = self.body_wait_since.take() {
            self.state.add_client_wait(since.elapsed());
        }
        match outcome {
            Some(Ok(body)) => {
                if let (Some(upload), Some(part)) = (&self.upload, &body) {
                    upload.progressed(part.len());
                }
                Ok(body)
            }
            Some(Err(error)) => {
                self.state.abort(AbortReason::ClientGone);
                let cancelled = "the client has cancelled the request";
                Err(Error::because(ErrorType::ConnectionClosed, cancelled, error).into_down())
            }
            None if call_deadline.is_some_and(|time| time <= Instant::now()) => {
                Err(grpc::deadline_error())
            }
            None if idle => {
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

    /// Whether the response ends with this head. Pingora's callers do not say so for the local responses.
    fn ends_with_head(&self, head: &ResponseHeader) -> bool {
        let length = head.headers.get(CONTENT_LENGTH);
        self.inner.req_header().method == Method::HEAD
            || length.is_some_and(|length| length.as_bytes() == b"0")
    }

    /// A part of the response has been passed on since `began`. The host cannot be late for this time, and a client that
    /// waits for answers before it sends more is not slow.
    fn note_progress(&mut self, began: Instant) {
        self.state.extend_response_deadline(began.elapsed());
        if let Some(since) = self.body_wait_since.take() {
            self.state.add_client_wait(since.elapsed());
        }
    }

    /// Records whether the client has received a response head.
    fn note_write<T>(&self, outcome: Result<T>) -> Result<T> {
        if self.inner.response_written().is_some() {
            self.state.note_response_started();
        } else if outcome.is_err() {
            self.state.abort(AbortReason::ClientGone);
        }
        outcome
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        if thread::panicking() && self.inner.response_written().is_none() {
            let failed = empty_response(StatusCode::INTERNAL_SERVER_ERROR);
            let _ = self.inner.write_response_header(failed, true);
        }
        // Without effect if the response is complete.
        self.inner.shutdown();
    }
}
