//! Responses of the API: complete ones and streams.

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

/// How long one write of a response may stall.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the rest of a request is read and discarded after its response. Closing with unread bytes would reset the
/// connection, and the client could lose the response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// A response of the API.
#[derive(Debug)]
pub(crate) struct ApiResponse {
    status: StatusCode,
    media_type: &'static str,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: ResponseBody,
}

#[derive(Debug)]
enum ResponseBody {
    Full(Vec<u8>),
    /// Ends when the sender is dropped. The permit is held until then.
    Stream(mpsc::Receiver<Bytes>, OwnedSemaphorePermit),
}

/// The body of an error response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One line for a person.
    pub error: String,
}

impl ApiResponse {
    /// A response with a complete body of this media type.
    pub(crate) fn new(
        status: StatusCode,
        media_type: &'static str,
        body: impl Into<Vec<u8>>,
    ) -> Self {
        ApiResponse {
            status,
            media_type,
            headers: Vec::new(),
            body: ResponseBody::Full(body.into()),
        }
    }

    /// A response in plain text.
    pub(crate) fn text(status: StatusCode, lines: &str) -> Self {
        ApiResponse::new(status, "text/plain; charset=utf-8", format!("{lines}\n"))
    }

    /// A response in JSON.
    pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => ApiResponse::new(status, "application/json", body),
            Err(error) => {
                error!("cannot serialize a response of the API: {error}");
                ApiResponse::error(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
            }
        }
    }

    /// An error response; `reason` is one line for a person.
    pub(crate) fn error(status: StatusCode, reason: impl Into<String>) -> Self {
        let error = reason.into();
        // Serializing a struct of one string cannot fail.
        let body = serde_json::to_vec(&ErrorBody { error }).unwrap_or_default();
        ApiResponse::new(status, "application/json", body)
    }

    /// The error response to a refused change.
    pub(crate) fn from_change_error(error: ChangeError) -> Self {
        match error {
            ChangeError::Unknown(reason) => ApiResponse::error(StatusCode::NOT_FOUND, reason),
            ChangeError::Invalid(reason) => ApiResponse::error(StatusCode::BAD_REQUEST, reason),
            ChangeError::Conflict(reason) => ApiResponse::error(StatusCode::CONFLICT, reason),
            ChangeError::Busy(reason) => {
                ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, reason)
                    .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
            }
        }
    }

    /// A 200 response that sends its chunks as they arrive, until their sender is dropped. It holds `permit` until then.
    pub(crate) fn stream(
        media_type: &'static str,
        chunks: mpsc::Receiver<Bytes>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        ApiResponse {
            status: StatusCode::OK,
            media_type,
            headers: Vec::new(),
            body: ResponseBody::Stream(chunks, permit),
        }
    }

    /// The response with one more header field.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sends the response, without its body if the request was HEAD, and closes the connection: clients send few
    /// requests, and an idle connection would outlive a handover.
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
                ResponseBody::Full(body) if !is_head_request => {
                    session.write_response_body(body.into(), true).await?;
                }
                ResponseBody::Stream(chunks, _permit) if !is_head_request => {
                    write_stream(&mut session, chunks, shutdown).await?;
                }
                ResponseBody::Full(_) | ResponseBody::Stream(..) => {}
            }
            session.drain_request_body().await?;
            session.finish().await
        };
        if let Err(error) = written.await {
            // A client may disconnect at any time.
            debug!("cannot send a response of the API: {error}");
        }
    }

    /// Sends the response on a connection that has no parsed request, and closes it. The client's remaining bytes are
    /// read for at most [`LINGER_TIMEOUT`], so that it can read the response.
    pub(super) async fn send_without_session(self, mut stream: L4Stream) {
        let (Ok(head), ResponseBody::Full(body)) = (self.build_head(), self.body) else {
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
        // Errors do not matter: the client has disconnected, or its time is up.
        let _ = timeout(LINGER_TIMEOUT, sending).await;
    }

    fn build_head(&self) -> pingora::Result<ResponseHeader> {
        let mut head = ResponseHeader::build(self.status, Some(self.headers.len() + 5))?;
        head.insert_header(header::CONTENT_TYPE, self.media_type)?;
        if let ResponseBody::Full(body) = &self.body {
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

/// Writes the chunks as they arrive, until the sender is dropped or the process shuts down.
async fn write_stream(
    session: &mut ServerSession,
    mut chunks: mpsc::Receiver<Bytes>,
    shutdown: &ShutdownWatch,
) -> pingora::Result<()> {
    let mut shutdown = shutdown.clone();
    loop {
        tokio::select! {
            chunk = chunks.recv() => match chunk {
                Some(chunk) => session.write_response_body(chunk, false).await?,
                None => return Ok(()),
            },
            () = wait_for_shutdown(&mut shutdown) => return Ok(()),
        }
    }
}

/// Waits until the process shuts down.
async fn wait_for_shutdown(shutdown: &mut ShutdownWatch) {
    // An error means that the sender was dropped, which is a shutdown as well.
    drop(shutdown.wait_for(|is_shutdown| *is_shutdown).await);
}
