//! Accepts connections to the API, reads their requests and bounds them in number, size and time.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{self, HeaderValue};
use http::{StatusCode, Version};
use log::{debug, warn};
use pingora::apps::ServerApp;
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::server::ShutdownWatch;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::api::Api;
use super::head_reader::{HeadError, MAX_HEAD, PendingHeads, READ_TIMEOUT};
use super::response::ApiResponse;

/// Concurrent requests other than probes and scrapes. An open dashboard uses one, a CLI command uses one briefly.
const MAX_REQUESTS: usize = 128;

/// Concurrent requests to /metrics. Each response may be large, and a scraper sends one request at a time.
const MAX_SCRAPES: usize = 8;

/// Concurrent requests to /healthz and /ready. Other requests cannot use these permits, so that probes always pass.
const MAX_PROBES: usize = 64;

/// Error responses being sent at once. Beyond this number, a connection is closed without a response.
const MAX_REJECTIONS: usize = 128;

/// The largest request body, in bytes.
const MAX_BODY: usize = 64 << 10;

/// The value of Retry-After, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Who sends the requests of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The owner of the process, over the control socket: may do everything.
    Owner,
    /// Any client that can connect to the TCP listener.
    Public,
}

/// Serves the API on one address.
#[derive(Debug)]
pub struct ApiServer {
    api: Arc<Api>,
    caller: Caller,
    pending_heads: PendingHeads,
    requests: Semaphore,
    scrapes: Semaphore,
    probes: Semaphore,
    rejections: Semaphore,
}

impl ApiServer {
    /// A server that passes the requests of `caller` to `api`.
    pub fn new(api: Arc<Api>, caller: Caller) -> Self {
        ApiServer {
            api,
            caller,
            pending_heads: PendingHeads::default(),
            requests: Semaphore::new(MAX_REQUESTS),
            scrapes: Semaphore::new(MAX_SCRAPES),
            probes: Semaphore::new(MAX_PROBES),
            rejections: Semaphore::new(MAX_REJECTIONS),
        }
    }

    /// Reads the head of a request. `None` if there is no valid head; the error response has been sent then.
    async fn accept_request(&self, mut stream: Box<L4Stream>) -> Option<ServerSession> {
        let pending_head = self.pending_heads.register();
        let rejection = match pending_head.read_head(&mut stream).await {
            Ok(()) => {
                let mut session = ServerSession::new_http1(stream);
                // The whole head is buffered, so this waits only if Pingora does not accept it as a head.
                return match timeout(READ_TIMEOUT, session.read_request()).await {
                    Ok(Ok(true)) => Some(session),
                    Ok(Ok(false)) => None,
                    outcome => {
                        drop(pending_head);
                        debug!("malformed request to the API: {outcome:?}");
                        let reason = "the head of the request is malformed";
                        self.reject_malformed(session, reason).await;
                        None
                    }
                };
            }
            Err(HeadError::Closed) => return None,
            Err(HeadError::TimedOut) => ApiResponse::error(
                StatusCode::REQUEST_TIMEOUT,
                format!("the head of the request took longer than {READ_TIMEOUT:?} to arrive"),
            ),
            Err(HeadError::TooLarge) => ApiResponse::error(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!("the head of the request is larger than {MAX_HEAD} bytes"),
            ),
            Err(HeadError::Displaced) => busy("too many connections have not sent a request yet"),
        };
        drop(pending_head);
        if let Ok(_permit) = self.rejections.try_acquire() {
            rejection.send_without_session(*stream).await;
        }
        None
    }

    /// Responds with 400 to bytes that Pingora cannot parse. Pingora's session cannot send it without a request head.
    async fn reject_malformed(&self, session: ServerSession, reason: &str) {
        let ServerSession::H1(session) = session else {
            return;
        };
        let stream = session.into_inner().into_any().downcast::<L4Stream>().ok();
        if let (Some(stream), Ok(_permit)) = (stream, self.rejections.try_acquire()) {
            let rejection = ApiResponse::error(StatusCode::BAD_REQUEST, reason);
            rejection.send_without_session(*stream).await;
        }
    }

    /// The permits for requests to this path.
    fn limit_for(&self, request: &RequestHeader) -> &Semaphore {
        match request.uri.path() {
            "/healthz" | "/ready" => &self.probes,
            "/metrics" => &self.scrapes,
            _ => &self.requests,
        }
    }

    async fn respond(&self, session: &mut ServerSession) -> ApiResponse {
        let matched = self.api.find_route(session.req_header(), self.caller);
        let matched = match matched {
            Ok(matched) => matched,
            Err(rejection) => return rejection,
        };
        match timeout(READ_TIMEOUT, read_body(session)).await {
            Ok(Ok(body)) => matched.respond(&self.api, body).await,
            Ok(Err(rejection)) => rejection,
            Err(_) => ApiResponse::error(
                StatusCode::REQUEST_TIMEOUT,
                format!("the request took longer than {READ_TIMEOUT:?} to arrive"),
            ),
        }
    }
}

#[async_trait]
impl ServerApp for ApiServer {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        // Neither listener uses TLS, so the stream is always a plain one.
        let stream = stream.into_any().downcast::<L4Stream>().ok()?;
        let mut session = self.accept_request(stream).await?;
        let request = session.req_header();
        let rejection = match host_error(request) {
            Some(reason) => ApiResponse::error(StatusCode::BAD_REQUEST, reason),
            None => match self.limit_for(request).try_acquire() {
                Ok(_permit) => {
                    let response = self.respond(&mut session).await;
                    response.send(session, shutdown).await;
                    return None;
                }
                Err(_) => {
                    warn!("too many concurrent requests to the API; one was refused");
                    busy("too many concurrent requests")
                }
            },
        };
        if let Ok(_permit) = self.rejections.try_acquire() {
            rejection.send(session, shutdown).await;
        }
        None
    }
}

/// A 503 that asks the client to retry soon.
pub(super) fn busy(reason: &str) -> ApiResponse {
    ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, reason)
        .with_header(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
}

/// Why the Host field of a request is invalid, by RFC 9112 3.2; `None` if it is valid.
fn host_error(request: &RequestHeader) -> Option<&'static str> {
    let hosts = request.headers.get_all(header::HOST).iter().count();
    match hosts {
        0 if request.version == Version::HTTP_11 => Some("the request has no Host field"),
        0 | 1 => None,
        _ => Some("the request has more than one Host field"),
    }
}

/// Reads the whole body of a request, up to [`MAX_BODY`] bytes.
async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, ApiResponse> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return Ok(body),
            Err(error) => {
                debug!("incomplete request to the API: {error}");
                let reason = "the body cannot be read";
                return Err(ApiResponse::error(StatusCode::BAD_REQUEST, reason));
            }
        }
        if body.len() > MAX_BODY {
            return Err(ApiResponse::error(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than {MAX_BODY} bytes"),
            ));
        }
    }
}
