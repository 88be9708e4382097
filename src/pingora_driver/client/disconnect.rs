//! Clients that leave: noticed in a queue, and while a host is connected to. While a host is at work, Pingora reads from
//! the client's session, and the session's stream tells it.

use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::{Error, ErrorType, Result};
use tokio::net::TcpStream;

use super::connection_state::{ConnectionState, ReadMode};
use super::stream::ClientStream;

/// Waits until the client has left.
pub(crate) async fn wait_for_disconnect(session: &mut ServerSession) -> Box<Error> {
    let Some(state) = super::state_of(session).map(Arc::clone) else {
        return pending().await;
    };
    // The deadline of an attempt before this one is over.
    state.set_response_deadline(None);
    let _mode_guard = state.set_read_mode(ReadMode::WatchForClose);
    match session.read_body_or_idle(true).await {
        Err(error) => error.into_down(),
        Ok(_) => pending().await,
    }
}

/// Whether the client has left by now, and how.
pub(crate) fn check_disconnect(session: &mut ServerSession) -> Option<Box<Error>> {
    match poll_once(pin!(wait_for_disconnect(session))) {
        Poll::Ready(error) => Some(error),
        Poll::Pending => None,
    }
}

/// Lets the task that connects to a host see the client leave; the connection's next read or write takes the socket
/// back. `None`: the requests of the client's connection share it, or it was not accepted here.
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

/// Connects to a host as long as the client that it is for is there.
#[async_trait]
impl Connect for ConnectionState {
    // Pingora's time limit for the whole of a connection's making is around this.
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        Ok(self.connect_tcp(address).await?.into())
    }
}

impl ConnectionState {
    /// A TCP connection to a host.
    pub(crate) async fn connect_tcp(&self, address: &SocketAddr) -> Result<TcpStream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::ConnectError, "not an IP address");
        };
        let mut connecting = pin!(TcpStream::connect(address));
        let connected = poll_fn(|context| match connecting.as_mut().poll(context) {
            Poll::Ready(connected) => Poll::Ready(Ok(connected)),
            Poll::Pending => self.poll_lent_socket(context).map(Err),
        });
        match connected.await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(error)) => {
                let what = match error.kind() {
                    io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                    io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
                    io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                        ErrorType::ConnectNoRoute
                    }
                    _ => ErrorType::ConnectError,
                };
                Err(Error::because(
                    what,
                    format!("cannot connect to {address}"),
                    error,
                ))
            }
            Err(left) => Err(Error::because(
                ErrorType::ConnectionClosed,
                "the client has left",
                left,
            )),
        }
    }
}
