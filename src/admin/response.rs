//! Answers: whole ones, and those that are written piece by piece.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use log::{debug, error};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::server::ShutdownWatch;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

use super::process_handle::ChangeError;

/// The longest time that a write of an answer may stall.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the rest of a request is read and thrown away after its answer: a client that still sends must not find the
/// connection reset before it has read the answer.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// An answer.
#[derive(Debug)]
pub(crate) struct ApiResponse {
    status: StatusCode,
    media_type: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: ResponseBody,
}

#[derive(Debug)]
enum ResponseBody {
    Whole(Vec<u8>),
    /// Ends with the sender. The permit is given back then.
    Stream(mpsc::Receiver<Bytes>, OwnedSemaphorePermit),
}

/// The body of an answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One line for a person.
    pub error: String,
}

impl ApiResponse {
    /// An answer with a body of this media type.
    pub(crate) fn new(
        status: StatusCode,
        media_type: &'static str,
        body: impl Into<Vec<u8>>,
    ) -> Self {
        ApiResponse {
            status,
            media_type,
            headers: Vec::new(),
            body: ResponseBody::Whole(body.into()),
        }
    }

    /// Lines of text.
    pub(crate) fn text(status: StatusCode, lines: &str) -> Self {
        ApiResponse::new(status, "text/plain; charset=utf-8", format!("{lines}\n"))
    }

    /// A value as JSON.
    pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => ApiResponse::new(status, "application/json", body),
            Err(error) => {
                error!("an answer of the API cannot be told: {error}");
                ApiResponse::error(StatusCode::INTERNAL_SERVER_ERROR, "this cannot be told")
            }
        }
    }

    /// Why there is no other answer.
    pub(crate) fn error(status: StatusCode, reason: impl Into<String>) -> Self {
        let error = reason.into();
        // A map of one text can always be told.
        let body = serde_json::to_vec(&ErrorBody { error }).unwrap_or_default();
        ApiResponse::new(status, "application/json", body)
    }

    /// Why something was not changed.
    pub(crate) fn from_change_error(error: ChangeError) -> Self {
        match error {
            ChangeError::Unknown(reason) => ApiResponse::error(StatusCode::NOT_FOUND, reason),
            ChangeError::Conflict(reason) => ApiResponse::error(StatusCode::CONFLICT, reason),
            ChangeError::Busy(reason) => {
                ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, reason)
                    .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
        }
    }

    /// A success whose pieces are sent as they come, until their sender ends. `permit` is held as long.
    pub(crate) fn stream(
        media_type: &'static str,
        pieces: mpsc::Receiver<Bytes>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        ApiResponse {
            status: StatusCode::OK,
            media_type,
            headers: Vec::new(),
            body: ResponseBody::Stream(pieces, permit),
        }
    }

    /// The same with one more field.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sends it; the body is left out where the request was HEAD. The connection ends with it: whoever asks here asks
    /// rarely, and a kept connection would outlive a handover.
    pub(super) async fn send(self, mut session: ServerSession, shutdown: &ShutdownWatch) {
        session.set_keepalive(None);
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        session.set_total_drain_timeout(Some(LINGER_TIMEOUT));
        let is_head_request = session.req_header().method == Method::HEAD;
        let written = async {
            session
                .write_response_header(Box::new(self.build_head()?))
                .await?;
            match self.body {
                ResponseBody::Whole(body) if !is_head_request => {
                    session.write_response_body(body.into(), true).await?;
                }
                ResponseBody::Stream(pieces, _permit) if !is_head_request => {
                    write_stream(&mut session, pieces, shutdown).await?;
                }
                ResponseBody::Whole(_) | ResponseBody::Stream(..) => {}
            }
            session.drain_request_body().await?;
            session.finish().await
        };
        if let Err(error) = written.await {
            // Clients come and go.
            debug!("an answer of the API did not arrive: {error}");
        }
    }

    /// Sends it where no request has arrived that could be answered, and closes the connection: what the client still sends
    /// is read for a while, so that it can read the answer.
    pub(super) async fn send_without_session(self, mut stream: L4Stream) {
        let (Ok(head), ResponseBody::Whole(body)) = (self.build_head(), self.body) else {
            return;
        };
        let mut bytes = format!("HTTP/1.1 {}\r\n", self.status).into_bytes();
        for (name, value) in &head.headers {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"Connection: close\r\n\r\n");
        bytes.extend_from_slice(&body);
        let sending = async {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            AsyncWriteExt::shutdown(&mut stream).await?;
            let mut ignored = [0; 4 << 10];
            while stream.read(&mut ignored).await? > 0 {}
            io::Result::Ok(())
        };
        // A client that has gone does not need it, and one that stays gets no more time.
        let _ = timeout(LINGER_TIMEOUT, sending).await;
    }

    fn build_head(&self) -> pingora::Result<ResponseHeader> {
        let mut head = ResponseHeader::build(self.status, Some(self.headers.len() + 5))?;
        head.insert_header(header::CONTENT_TYPE, self.media_type)?;
        if let ResponseBody::Whole(body) = &self.body {
            head.insert_header(header::CONTENT_LENGTH, body.len())?;
        }
        head.insert_header(header::CACHE_CONTROL, "no-store")?;
        head.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
        for (name, value) in &self.headers {
            head.insert_header(name, value)?;
        }
        Ok(head)
    }
}

/// Writes the pieces as they come, until there are no more or the process says farewell.
async fn write_stream(
    session: &mut ServerSession,
    mut pieces: mpsc::Receiver<Bytes>,
    shutdown: &ShutdownWatch,
) -> pingora::Result<()> {
    let mut shutdown = shutdown.clone();
    loop {
        tokio::select! {
            piece = pieces.recv() => match piece {
                Some(piece) => session.write_response_body(piece, false).await?,
                None => return Ok(()),
            },
            () = wait_for_shutdown(&mut shutdown) => return Ok(()),
        }
    }
}

/// Waits until the process says farewell.
async fn wait_for_shutdown(shutdown: &mut ShutdownWatch) {
    // Who says it may have gone, which is as good.
    drop(shutdown.wait_for(|ends| *ends).await);
}
