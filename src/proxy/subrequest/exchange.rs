//! One request and its response on one connection.

use bytes::Bytes;
use pingora::connectors::TransportConnector;
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType, Result};

use super::subrequest_sender::is_kept;
use super::{BodyLimit, SubResponse, Subrequest};
use crate::config::Limits;
use crate::pool::Failure;
use crate::proxy::failure;
use crate::proxy::http_rules;

/// A body that is longer than the request's sender takes.
const BODY_TOO_LARGE: ErrorType = ErrorType::new("ResponseBodyTooLarge");

/// A failed exchange.
#[derive(Debug)]
pub(super) struct ExchangeError {
    pub(super) error: Box<Error>,
    /// How the host failed. `None`: the error says nothing about the host.
    pub(super) failure: Option<Failure>,
    /// Whether the host has sent an interim response.
    pub(super) has_interim: bool,
}

impl ExchangeError {
    /// The failure of a request that was being sent or answered.
    fn of(error: Box<Error>, request: &Subrequest) -> Self {
        let failure = failure::host_failure(&error);
        let is_blamed = failure != Failure::Reset || !is_caused_by_request(request, &error);
        ExchangeError {
            failure: is_blamed.then_some(failure),
            has_interim: false,
            error,
        }
    }

    /// The error of a request to a host.
    pub(super) fn of_host(self, peer: &HttpPeer) -> Box<Error> {
        self.error.into_up().more_context(format!("host {peer}"))
    }

    /// Whether the connection broke before a response. On a kept connection the host has probably closed it before the request.
    pub(super) fn is_stale(&self) -> bool {
        let etype = self.error.etype();
        let is_broken = matches!(
            etype,
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError
        );
        is_broken && !self.has_interim
    }
}

/// A request that was sent and whose response has begun.
pub(super) struct Exchange {
    session: HttpSession,
    head: ResponseHeader,
}

impl Exchange {
    /// Sends the request and reads the head of the response.
    pub(super) async fn begin(
        stream: Stream,
        peer: &HttpPeer,
        request: &Subrequest,
        limits: &Limits,
    ) -> Result<Self, ExchangeError> {
        let mut session = HttpSession::new_with_options(stream, peer);
        session.read_timeout = peer.options.read_timeout;
        session.write_timeout = peer.options.write_timeout;
        let failed = |error| ExchangeError::of(error, request);
        let head = Box::new(request.head.clone());
        let header_written = session.write_request_header(head).await;
        header_written.map_err(failed)?;
        let written = write_body(&mut session, &request.body).await;
        let mut has_interim = false;
        let head = read_head(&mut session, limits, &mut has_interim).await;
        match (head, written) {
            // The host may have sent a response before it closed.
            (Ok(head), _) => Ok(Exchange { session, head }),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(ExchangeError {
                has_interim,
                ..failed(error)
            }),
        }
    }

    pub(super) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// Reads the body.
    pub(super) async fn read_body(
        &mut self,
        request: &Subrequest,
        limit: BodyLimit,
    ) -> Result<Bytes, ExchangeError> {
        let (mut body, mut received) = (Vec::new(), 0_usize);
        let failed = |error| ExchangeError::of(error, request);
        let (BodyLimit::Keep(max) | BodyLimit::Discard(max)) = limit;
        while let Some(more) = self.session.read_body_ref().await.map_err(failed)? {
            received = received.saturating_add(more.len());
            if received > max {
                let error = format!("the body has more than {max} bytes");
                return Err(ExchangeError {
                    error: Error::explain(BODY_TOO_LARGE, error),
                    failure: None,
                    has_interim: false,
                });
            }
            if matches!(limit, BodyLimit::Keep(_)) {
                body.extend_from_slice(more);
            }
        }
        Ok(body.into())
    }

    /// Ends the exchange after the whole body, and keeps the connection if the host does.
    pub(super) async fn finish(
        mut self,
        connector: &TransportConnector,
        peer: &HttpPeer,
        body: Bytes,
    ) -> SubResponse {
        self.session.respect_keepalive();
        if is_kept(peer)
            && self.session.will_keepalive()
            && let Some(stream) = self.session.reuse().await
        {
            connector.release_stream(stream, peer.reuse_hash(), peer.options.idle_timeout);
        }
        SubResponse {
            head: self.head,
            body,
        }
    }

    /// Ends the exchange within the body, and closes the connection.
    pub(super) fn abandon(self) -> SubResponse {
        SubResponse {
            head: self.head,
            body: Bytes::new(),
        }
    }
}

async fn write_body(session: &mut HttpSession, body: &[u8]) -> Result<()> {
    if !body.is_empty() {
        session.write_body(body).await?;
    }
    session.finish_body().await.map(drop)
}

/// Reads the head of the final response. Interim responses are skipped; `has_interim` says whether there was one.
async fn read_head(
    session: &mut HttpSession,
    limits: &Limits,
    has_interim: &mut bool,
) -> Result<ResponseHeader> {
    loop {
        session.read_response().await?;
        let Some(head) = session.resp_header() else {
            return Error::e_explain(ErrorType::InternalError, "a response without a head");
        };
        // No request of the proxy's own asks for an upgrade.
        http_rules::validate_response(head.into(), None, limits)?;
        if !head.status.is_informational() {
            return Ok(head.clone());
        }
        *has_interim = true;
    }
}

/// Whether a failure may be caused by the request instead of the host, by what a host may do with such a request.
fn is_caused_by_request(request: &Subrequest, error: &Error) -> bool {
    // A host may reject an upload by closing the connection.
    let is_upload_refused = *error.etype() == ErrorType::WriteError && !request.body.is_empty();
    is_upload_refused || !failure::is_common_request((&request.head).into())
}
