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
use super::arrival::{ARRIVAL, Arrivals, LARGEST_HEAD, NoHead};
use super::reply::Reply;

/// Requests at once, beside the probes. A page that is left open has one, a command another for a moment.
const REQUESTS: usize = 128;

/// Requests to /metrics at once: each answer may be large, and a scraper asks one at a time.
const SCRAPES: usize = 8;

/// Requests to /healthz and /ready at once. Nothing else can take their places.
const PROBES: usize = 64;

/// Refusals that are on their way at once; beyond that connections are closed without one.
const REFUSALS: usize = 128;

/// The largest body of a request, in bytes.
const LARGEST_BODY: usize = 64 << 10;

/// For Retry-After, in seconds.
const SOON: HeaderValue = HeaderValue::from_static("1");

/// Who comes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The owner of the process, who may do everything.
    Owner,
    /// Anybody who reaches the address.
    Public,
}

/// The API behind one address.
#[derive(Debug)]
pub struct Entrance {
    api: Arc<Api>,
    door: Door,
    arrivals: Arrivals,
    requests: Semaphore,
    scrapes: Semaphore,
    probes: Semaphore,
    refusals: Semaphore,
}

impl Entrance {
    /// Lets requests to `api` in.
    pub fn new(api: Arc<Api>, door: Door) -> Self {
        Entrance {
            api,
            door,
            arrivals: Arrivals::default(),
            requests: Semaphore::new(REQUESTS),
            scrapes: Semaphore::new(SCRAPES),
            probes: Semaphore::new(PROBES),
            refusals: Semaphore::new(REFUSALS),
        }
    }

    /// The session of a request whose head has arrived; a refusal is sent.
    async fn arrive(&self, mut stream: Box<L4Stream>) -> Option<ServerSession> {
        let arriving = self.arrivals.enter();
        let refusal = match arriving.head(&mut stream).await {
            Ok(()) => {
                let mut session = ServerSession::new_http1(stream);
                // All of it is there, so this does not wait, unless it is no head.
                return match timeout(ARRIVAL, session.read_request()).await {
                    Ok(Ok(true)) => Some(session),
                    Ok(Ok(false)) => None,
                    outcome => {
                        drop(arriving);
                        debug!("no request to the API: {outcome:?}");
                        let reason = "the head of the request is malformed";
                        self.refuse_malformed(session, reason).await;
                        None
                    }
                };
            }
            Err(NoHead::Gone) => return None,
            Err(NoHead::Late) => Reply::error(
                StatusCode::REQUEST_TIMEOUT,
                format!("the head of the request took longer than {ARRIVAL:?} to arrive"),
            ),
            Err(NoHead::TooLarge) => Reply::error(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                format!("the head of the request is larger than {LARGEST_HEAD} bytes"),
            ),
            Err(NoHead::Displaced) => busy("too many connections wait to send a request"),
        };
        drop(arriving);
        if let Ok(_permit) = self.refusals.try_acquire() {
            refusal.send_bare(*stream).await;
        }
        None
    }

    /// Refuses what Pingora cannot read as a request: there is no head that an answer could be made for.
    async fn refuse_malformed(&self, session: ServerSession, reason: &str) {
        let ServerSession::H1(session) = session else {
            return;
        };
        let stream = session.into_inner().into_any().downcast::<L4Stream>().ok();
        if let (Some(stream), Ok(_permit)) = (stream, self.refusals.try_acquire()) {
            let refusal = Reply::error(StatusCode::BAD_REQUEST, reason);
            refusal.send_bare(*stream).await;
        }
    }

    /// The places for requests like this one.
    fn places(&self, request: &RequestHeader) -> &Semaphore {
        match request.uri.path() {
            "/healthz" | "/ready" => &self.probes,
            "/metrics" => &self.scrapes,
            _ => &self.requests,
        }
    }

    async fn answer(&self, session: &mut ServerSession) -> Reply {
        let found = self.api.find(session.req_header(), self.door);
        let found = match found {
            Ok(found) => found,
            Err(refusal) => return refusal,
        };
        match timeout(ARRIVAL, body(session)).await {
            Ok(Ok(body)) => found.answer(&self.api, body).await,
            Ok(Err(refusal)) => refusal,
            Err(_) => Reply::error(
                StatusCode::REQUEST_TIMEOUT,
                format!("the request took longer than {ARRIVAL:?} to arrive"),
            ),
        }
    }
}

#[async_trait]
impl ServerApp for Entrance {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        // Neither address has TLS.
        let stream = stream.into_any().downcast::<L4Stream>().ok()?;
        let mut session = self.arrive(stream).await?;
        let request = session.req_header();
        let refusal = match bad_host(request) {
            Some(reason) => Reply::error(StatusCode::BAD_REQUEST, reason),
            None => match self.places(request).try_acquire() {
                Ok(_place) => {
                    let reply = self.answer(&mut session).await;
                    reply.send(session, shutdown).await;
                    return None;
                }
                Err(_) => {
                    warn!("too many requests to the API at once; one more was refused");
                    busy("too many requests at once")
                }
            },
        };
        if let Ok(_permit) = self.refusals.try_acquire() {
            refusal.send(session, shutdown).await;
        }
        None
    }
}

/// A refusal of what may be asked for again soon.
pub(super) fn busy(reason: &str) -> Reply {
    Reply::error(StatusCode::SERVICE_UNAVAILABLE, reason).with(header::RETRY_AFTER, SOON)
}

/// What is wrong with the Host of a request: RFC 9112 3.2.
fn bad_host(request: &RequestHeader) -> Option<&'static str> {
    let hosts = request.headers.get_all(header::HOST).iter().count();
    match hosts {
        0 if request.version == Version::HTTP_11 => Some("the request has no Host field"),
        0 | 1 => None,
        _ => Some("the request has more than one Host field"),
    }
}

/// The whole body of a request.
async fn body(session: &mut ServerSession) -> Result<Vec<u8>, Reply> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return Ok(body),
            Err(error) => {
                debug!("no whole request to the API: {error}");
                let reason = "the body cannot be read";
                return Err(Reply::error(StatusCode::BAD_REQUEST, reason));
            }
        }
        if body.len() > LARGEST_BODY {
            return Err(Reply::error(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is larger than {LARGEST_BODY} bytes"),
            ));
        }
    }
}
