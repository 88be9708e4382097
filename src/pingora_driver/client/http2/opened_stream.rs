//! A stream that a client has opened, before its request is served.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};
use pingora::http::RequestHeader;
use tokio::time::timeout;

use super::extended_connect::{self, is_offered};
use super::h2_fields::{empty_response, has_zero_length, join_cookies, names_two_authorities};
use super::path_rewriter::restore_path;
use crate::http2_request::{Http2Request, UploadObserver};
use crate::proxy::ActiveConfig;
use crate::record::TerminationReason;

/// A stream that a client has opened, before its request is served.
pub(super) struct OpenedStream {
    request: Http2Request,
    /// Why the request cannot be served, whatever the configuration is.
    fault: Option<StatusCode>,
}

impl OpenedStream {
    /// Joins the Cookie fields as HTTP/1.1 requires, RFC 9113 8.2.3, and turns a request for a tunnel into an upgrade.
    pub(super) fn new(request: Request<RecvStream>, responder: SendResponse<Bytes>) -> Self {
        let (parts, body) = request.into_parts();
        let mut head = RequestHeader::from(parts);
        let mut fault = None;
        if restore_path(&mut head).is_err() || names_two_authorities(&head) {
            fault = Some(StatusCode::BAD_REQUEST);
        }
        join_cookies(&mut head);
        let is_tunnel = extended_connect::begin(&mut head).unwrap_or_else(|status| {
            fault.get_or_insert(status);
            false
        });
        OpenedStream {
            request: Http2Request {
                head,
                body,
                responder,
                upload: None,
                is_tunnel,
            },
            fault,
        }
    }

    /// The response to a request that is not to be served.
    pub(super) fn refusal(&self, active: &ActiveConfig) -> Option<(StatusCode, TerminationReason)> {
        let is_refused_tunnel = self.request.is_tunnel && !is_offered(&active.upgrades);
        let not_offered = is_refused_tunnel.then_some(StatusCode::NOT_IMPLEMENTED);
        if let Some(status) = self.fault.or(not_offered) {
            return Some((status, TerminationReason::BadRequest));
        }
        if self.request.head.headers.len() > active.limits.fields {
            // Few bytes can encode many fields, so they are counted at once and then freed.
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Some((status, TerminationReason::TooLarge));
        }
        None
    }

    /// Whether the client may send DATA.
    pub(super) fn has_body(&self) -> bool {
        !self.request.body.is_end_stream()
    }

    /// Reports every part of the body to `upload`.
    pub(super) fn track_upload(&mut self, upload: UploadObserver) {
        self.request.upload = Some(upload);
    }

    /// The request, once it is complete as far as it has to be. A body that its head announces to be empty must end
    /// within `limit`, RFC 9113 8.1.1.
    pub(super) async fn into_request(
        mut self,
        limit: Duration,
    ) -> Result<Http2Request, (OpenedStream, TerminationReason)> {
        if !self.has_body() || !has_zero_length(&self.request.head) {
            return Ok(self.request);
        }
        let body = &mut self.request.body;
        let ended = timeout(limit, poll_fn(|context| poll_empty_end(body, context))).await;
        match ended.unwrap_or(Err(TerminationReason::ClientTimeout)) {
            Ok(()) => Ok(self.request),
            Err(termination) => Err((self, termination)),
        }
    }

    /// Ends a stream whose body did not turn out to be empty. Returns the status of the response, if one is sent.
    pub(super) fn reject(self, termination: TerminationReason) -> Option<u16> {
        let status = match termination {
            TerminationReason::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
            TerminationReason::BadRequest => StatusCode::BAD_REQUEST,
            _ => return None,
        };
        self.respond_with_status(status).then_some(status.as_u16())
    }

    /// Ends the stream with a response that has no body, which needs no flow-control window. `false`: the stream has
    /// already ended.
    pub(super) fn respond_with_status(mut self, status: StatusCode) -> bool {
        let mut head = empty_response(status);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            head.insert_header(RETRY_AFTER, 1)
                .expect("a number is a valid value");
        }
        let head = Response::from_parts((*head).into(), ());
        self.request.responder.send_response(head, true).is_ok()
    }

    /// Rejects the stream without processing it, so the client may retry the request.
    pub(super) fn refuse(mut self) {
        self.request.responder.send_reset(Reason::REFUSED_STREAM);
    }
}

/// Waits for the end of a body that must be empty.
fn poll_empty_end(
    body: &mut RecvStream,
    context: &mut Context<'_>,
) -> Poll<Result<(), TerminationReason>> {
    loop {
        match ready!(body.poll_data(context)) {
            None => return Poll::Ready(Ok(())),
            Some(Ok(data)) if data.is_empty() => {}
            Some(Err(error)) if !error.is_library() => {
                return Poll::Ready(Err(TerminationReason::ClientGone));
            }
            Some(_) => return Poll::Ready(Err(TerminationReason::BadRequest)),
        }
    }
}
