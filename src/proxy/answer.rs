//! Answers that we give ourselves.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::failure;

/// How long the rest of a request's body is read and thrown away after its answer: a client that still sends must not
/// find the connection reset before it has read the answer.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// Whether the client's connection outlives an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    Keep,
    Close,
}

/// Sends a short text with this status, and Retry-After (in seconds) if there is one.
pub(super) async fn send(
    session: &mut Session,
    status: u16,
    retry_after: Option<u32>,
    connection: Connection,
) -> Result<()> {
    // A client that waits for "100 Continue" may never send the body, so what follows could be taken for it.
    let waits = session.req_header().headers.contains_key(header::EXPECT);
    if connection == Connection::Close || waits {
        session.set_keepalive(None);
    } else {
        // The rest of the body is read after the answer, for LINGER at most.
        session.set_close_on_response_before_downstream_finish(false);
    }
    let text = failure::text(status);
    let mut head = ResponseHeader::build(status, Some(5))?;
    head.insert_header(header::CONTENT_TYPE, "text/plain")?;
    head.insert_header(header::CONTENT_LENGTH, text.len())?;
    if let Some(seconds) = retry_after {
        head.insert_header(header::RETRY_AFTER, seconds)?;
    }
    let no_body = session.req_header().method == Method::HEAD;
    session
        .write_response_header(Box::new(head), no_body)
        .await?;
    if !no_body {
        let text = Bytes::from_static(text.as_bytes());
        session.write_response_body(Some(text), true).await?;
    }
    Ok(())
}

/// Sends an answer after which the connection is closed, unless a part of another answer is out already.
pub(super) async fn send_last(session: &mut Session, status: u16) -> Result<()> {
    let begun = session
        .response_written()
        .is_some_and(|head| !head.status.is_informational() || head.status == 101);
    if begun {
        return Ok(());
    }
    send(session, status, None, Connection::Close).await?;
    if !session.req_header().headers.contains_key(header::EXPECT) {
        session.drain_request_body().await?;
    }
    Ok(())
}
