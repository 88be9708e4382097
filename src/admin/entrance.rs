//! Where requests to the API come in: how many at once, how long they may take to arrive, and what they may do.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use log::{debug, warn};
use pingora::apps::{HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::api::Api;
use super::reply::Reply;

/// Connections at once; further ones are closed. A page that is left open has one, a probe another for a moment.
const CONNECTIONS: usize = 128;

/// A whole request has this long to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// The largest body of a request, in bytes.
const LARGEST_BODY: usize = 64 << 10;

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
    places: Semaphore,
}

impl Entrance {
    /// Lets requests to `api` in.
    pub fn new(api: Arc<Api>, door: Door) -> Self {
        Entrance {
            api,
            door,
            places: Semaphore::new(CONNECTIONS),
        }
    }

    async fn answer(&self, session: &mut ServerSession) -> Option<Reply> {
        match timeout(ARRIVAL, session.read_request()).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return None,
            Ok(Err(error)) => {
                debug!("no request to the API: {error}");
                return None;
            }
            Err(_) => return None,
        }
        let found = self.api.find(session.req_header(), self.door);
        let found = match found {
            Ok(found) => found,
            Err(refusal) => return Some(refusal),
        };
        match timeout(ARRIVAL, body(session)).await {
            Ok(Ok(body)) => Some(found.answer(&self.api, body).await),
            Ok(Err(refusal)) => Some(refusal),
            Err(_) => Some(Reply::error(
                StatusCode::REQUEST_TIMEOUT,
                format!("the request took longer than {ARRIVAL:?} to arrive"),
            )),
        }
    }
}

#[async_trait]
impl HttpServerApp for Entrance {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let Ok(_place) = self.places.try_acquire() else {
            warn!("{CONNECTIONS} connections to the API are open; one more was closed");
            return None;
        };
        let reply = self.answer(&mut session).await?;
        reply.send(session, shutdown).await;
        None
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
