//! Sends the proxy's own responses on a Pingora session.

use http::{Method, header};
use log::debug;
use pingora::Result;
use pingora::proxy::Session;

use crate::proxy::local_message::{LocalMessage, Persistence};

/// Sends a response.
pub(crate) async fn send(
    session: &mut Session,
    response: &LocalMessage,
    connection: Persistence,
) -> Result<()> {
    // A client that waits for "100 Continue" may never send the body, so the proxy could not tell the body from the
    // next request.
    let expects_continue = session.req_header().headers.contains_key(header::EXPECT);
    if connection == Persistence::Close || expects_continue {
        session.set_keepalive(None);
    } else {
        // The rest of the body is read after the response, for LINGER at most.
        session.set_close_on_response_before_downstream_finish(false);
    }
    let head = response.to_header()?;
    let body = response.body();
    let has_no_body = body.is_empty() || session.req_header().method == Method::HEAD;
    session
        .write_response_header(Box::new(head), has_no_body)
        .await?;
    if !has_no_body {
        session
            .write_response_body(Some(body.clone()), true)
            .await?;
    }
    Ok(())
}

/// Sends a response and closes the connection, unless part of another response has already been sent. With `linger` the
/// rest of the request is read first.
pub(crate) async fn send_and_close(
    session: &mut Session,
    response: &LocalMessage,
    linger: bool,
) -> Result<()> {
    let has_started = session
        .response_written()
        .is_some_and(|head| !head.status.is_informational() || head.status == 101);
    if has_started {
        return Ok(());
    }
    send(session, response, Persistence::Close).await?;
    if linger && !session.req_header().headers.contains_key(header::EXPECT) {
        // The client has its response; an error in the rest of the request does not matter.
        if let Err(error) = session.drain_request_body().await {
            debug!("the rest of a refused request did not arrive: {error}");
        }
    }
    Ok(())
}
