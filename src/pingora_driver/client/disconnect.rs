//! Detection of clients that disconnect while their request is queued or while the proxy connects to a host. While the
//! host is working, Pingora itself reads from the client's session, and the stream reports the disconnect.

use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};

use super::connection_state::{ConnectionState, ReadMode};
use super::stream::ClientStream;
use crate::host_socket::HostSocket;

/// Resolves when the client disconnects.
pub(crate) async fn wait_for_disconnect(session: &mut ServerSession) -> Box<Error> {
    let Some(state) = super::state_of(session).map(Arc::clone) else {
        return pending().await;
    };
    // The deadline belonged to the previous attempt.
    state.set_response_deadline(None);
    let _mode_guard = state.set_read_mode(ReadMode::WatchForClose);
    match session.read_body_or_idle(true).await {
        Err(error) => error.into_down(),
        Ok(_) => pending().await,
    }
}

/// The error of a client that has already disconnected; `None` if it is still connected.
pub(crate) fn check_disconnect(session: &mut ServerSession) -> Option<Box<Error>> {
    match poll_once(pin!(wait_for_disconnect(session))) {
        Poll::Ready(error) => Some(error),
        Poll::Pending => None,
    }
}

/// Moves the client's socket into its state, so that the task that connects to a host can watch for a disconnect. The
/// next read or write of the connection takes the socket back. `None`: several requests share the connection, or a
/// foreign listener accepted it.
pub(crate) fn lend_socket(session: &mut ServerSession) -> Option<Arc<ConnectionState>> {
    let state = Arc::clone(ClientStream::of(session)?.state());
    let mode_guard = state.set_read_mode(ReadMode::LendSocket);
    let _ = poll_once(pin!(session.read_body_or_idle(true)));
    drop(mode_guard);
    Some(state)
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

impl ConnectionState {
    /// Opens a connection to a host, and fails as soon as the client disconnects.
    pub(crate) async fn connect(&self, address: &SocketAddr) -> Result<HostSocket> {
        let mut connecting = pin!(HostSocket::connect(address));
        let connected = poll_fn(|context| match connecting.as_mut().poll(context) {
            Poll::Ready(connected) => Poll::Ready(Ok(connected)),
            Poll::Pending => self.poll_lent_socket(context).map(Err),
        });
        match connected.await {
            Ok(connected) => connected,
            Err(disconnect) => Err(Error::because(
                ErrorType::ConnectionClosed,
                "the client has disconnected",
                disconnect,
            )),
        }
    }
}
