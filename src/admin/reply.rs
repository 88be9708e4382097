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

use super::running::ChangeError;

/// The longest time that a write of an answer may stall.
const WRITE: Duration = Duration::from_secs(10);

/// How long the rest of a request is read and thrown away after its answer: a client that still sends must not find the
/// connection reset before it has read the answer.
const LINGER: Duration = Duration::from_secs(2);

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    kind: &'static str,
    fields: Vec<(HeaderName, HeaderValue)>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Whole(Vec<u8>),
    /// Ends with the sender. The permit is given back then.
    Pieces(mpsc::Receiver<Bytes>, OwnedSemaphorePermit),
}

/// The body of an answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One line for a person.
    pub error: String,
}

impl Reply {
    /// An answer with a body of this media type.
    pub(crate) fn new(status: StatusCode, kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Reply {
            status,
            kind,
            fields: Vec::new(),
            body: Body::Whole(body.into()),
        }
    }

    /// Lines of text.
    pub(crate) fn text(status: StatusCode, lines: &str) -> Self {
        Reply::new(status, "text/plain; charset=utf-8", format!("{lines}\n"))
    }

    /// A value as JSON.
    pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Reply::new(status, "application/json", body),
            Err(error) => {
                error!("an answer of the API cannot be told: {error}");
                Reply::error(StatusCode::INTERNAL_SERVER_ERROR, "this cannot be told")
            }
        }
    }

    /// Why there is no other answer.
    pub(crate) fn error(status: StatusCode, reason: impl Into<String>) -> Self {
        let error = reason.into();
        // A map of one text can always be told.
        let body = serde_json::to_vec(&ErrorBody { error }).unwrap_or_default();
        Reply::new(status, "application/json", body)
    }

    /// Why something was not changed.
    pub(crate) fn refusal(error: ChangeError) -> Self {
        match error {
            ChangeError::Unknown(reason) => Reply::error(StatusCode::NOT_FOUND, reason),
            ChangeError::Conflict(reason) => Reply::error(StatusCode::CONFLICT, reason),
            ChangeError::Busy(reason) => Reply::error(StatusCode::SERVICE_UNAVAILABLE, reason)
                .with(header::RETRY_AFTER, HeaderValue::from_static("1")),
        }
    }

    /// A success whose pieces are sent as they come, until their sender ends. `permit` is held as long.
    pub(crate) fn pieces(
        kind: &'static str,
        pieces: mpsc::Receiver<Bytes>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Reply {
            status: StatusCode::OK,
            kind,
            fields: Vec::new(),
            body: Body::Pieces(pieces, permit),
        }
    }

    /// The same with one more field.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.fields.push((name, value));
        self
    }

    /// Sends it; the body is left out where the request was HEAD. The connection ends with it: whoever asks here asks
    /// rarely, and a kept connection would outlive a handover.
    pub(super) async fn send(self, mut session: ServerSession, shutdown: &ShutdownWatch) {
        session.set_keepalive(None);
        session.set_write_timeout(Some(WRITE));
        session.set_total_drain_timeout(Some(LINGER));
        let to_head = session.req_header().method == Method::HEAD;
        let written = async {
            session
                .write_response_header(Box::new(self.head()?))
                .await?;
            match self.body {
                Body::Whole(body) if !to_head => {
                    session.write_response_body(body.into(), true).await?;
                }
                Body::Pieces(pieces, _permit) if !to_head => {
                    write_all(&mut session, pieces, shutdown).await?;
                }
                Body::Whole(_) | Body::Pieces(..) => {}
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
    pub(super) async fn send_bare(self, mut stream: L4Stream) {
        let (Ok(head), Body::Whole(body)) = (self.head(), self.body) else {
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
        let _ = timeout(LINGER, sending).await;
    }

    fn head(&self) -> pingora::Result<ResponseHeader> {
        let mut head = ResponseHeader::build(self.status, Some(self.fields.len() + 5))?;
        head.insert_header(header::CONTENT_TYPE, self.kind)?;
        if let Body::Whole(body) = &self.body {
            head.insert_header(header::CONTENT_LENGTH, body.len())?;
        }
        head.insert_header(header::CACHE_CONTROL, "no-store")?;
        head.insert_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")?;
        for (name, value) in &self.fields {
            head.insert_header(name, value)?;
        }
        Ok(head)
    }
}

/// Writes the pieces as they come, until there are no more or the process says farewell.
async fn write_all(
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
            () = farewell(&mut shutdown) => return Ok(()),
        }
    }
}

/// Waits until the process says farewell.
async fn farewell(shutdown: &mut ShutdownWatch) {
    // Who says it may have gone, which is as good.
    drop(shutdown.wait_for(|ends| *ends).await);
}
