//! Where requests to the API come in: how many at once, how long they may take to arrive, and what they may do.

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

/// Requests at once, beside the probes. A page that is left open has one, a command another for a moment.
const MAX_REQUESTS: usize = 128;

/// Requests to /metrics at once: each answer may be large, and a scraper asks one at a time.
const MAX_SCRAPES: usize = 8;

/// Requests to /healthz and /ready at once. Nothing else can take their places.
const MAX_PROBES: usize = 64;

/// Refusals that are on their way at once; beyond that connections are closed without one.
const MAX_REJECTIONS: usize = 128;

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 64 << 10;

/// For Retry-After, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Who comes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The owner of the process, who may do everything.
    Owner,
    /// Anybody who reaches the address.
    Public,
}

/// The API behind one address.
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
    /// Lets requests to `api` in.
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

    /// The session of a request whose head has arrived; a refusal is sent.
    async fn accept_request(&self, mut stream: Box<L4Stream>) -> Option<ServerSession> {
        let pending_head = self.pending_heads.register();
        let rejection = match pending_head.read_head(&mut stream).await {
            Ok(()) => {
                let mut session = ServerSession::new_http1(stream);
                // All of it is there, so this does not wait, unless it is no head.
                return match timeout(READ_TIMEOUT, session.read_request()).await {
                    Ok(Ok(true)) => Some(session),
                    Ok(Ok(false)) => None,
                    outcome => {
                        drop(pending_head);
                        debug!("no request to the API: {outcome:?}");
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
            Err(HeadError::Displaced) => busy("too many connections wait to send a request"),
        };
        drop(pending_head);
        if let Ok(_permit) = self.rejections.try_acquire() {
            rejection.send_without_session(*stream).await;
        }
        None
    }

    /// Refuses what Pingora cannot read as a request: there is no head that an answer could be made for.
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

    /// The places for requests like this one.
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
        // Neither address has TLS.
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
                    warn!("too many requests to the API at once; one more was refused");
                    busy("too many requests at once")
                }
            },
        };
        if let Ok(_permit) = self.rejections.try_acquire() {
            rejection.send(session, shutdown).await;
        }
        None
    }
}

/// A refusal of what may be asked for again soon.
pub(super) fn busy(reason: &str) -> ApiResponse {
    ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, reason)
        .with_header(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
}

/// What is wrong with the Host of a request: RFC 9112 3.2.
fn host_error(request: &RequestHeader) -> Option<&'static str> {
    let hosts = request.headers.get_all(header::HOST).iter().count();
    match hosts {
        0 if request.version == Version::HTTP_11 => Some("the request has no Host field"),
        0 | 1 => None,
        _ => Some("the request has more than one Host field"),
    }
}

/// The whole body of a request.
async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, ApiResponse> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return Ok(body),
            Err(error) => {
                debug!("no whole request to the API: {error}");
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
