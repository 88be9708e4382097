//! The client's side of a connection: its deadlines and limits, and the response if the code that serves it panics.
//!
//! Pingora limits the wait of each single read. It has no timeout for a whole head, and none for a client that does not
//! read its response. So the stream of a connection is a [`ClientStream`], which checks its deadlines whenever a read
//! or a write has to wait. A request that arrives in one piece costs nothing extra.
//!
//! A [`ClientStream`] also follows the framing of requests and returns them to Pingora one at a time: it holds back
//! bytes of the next request until Pingora asks for it. So every request has its own deadline, and every request passes
//! the checks, which reject what Pingora would repair and forward. [`PanicGuard`] wraps the proxy and responds where
//! the proxy cannot.
//!
//! An HTTP/2 connection has its own connection loop, around the `h2` crate, and its own session of a stream.

mod connection_state;
mod digests;
mod disconnect;
mod head_scanner;
mod http2;
mod lingering_close;
mod panic_guard;
mod socket;
mod stream;
mod tunnel_state;

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::GetTimingDigest;
use pingora::protocols::http::ServerSession;

use http2::H2Stream;

pub(crate) use connection_state::ConnectionState;
pub(super) use disconnect::{check_disconnect, lend_socket, wait_for_disconnect};
pub use panic_guard::PanicGuard;
pub use stream::ClientStream;

/// The shared state of a client's connection or stream. `None`: a foreign listener accepted the connection.
pub(crate) fn state_of(session: &ServerSession) -> Option<&Arc<ConnectionState>> {
    match ClientStream::of(session) {
        Some(client) => Some(client.state()),
        None => H2Stream::state_of(session),
    }
}

/// How long writes on the client's connection have waited for it to read. Always 0 for HTTP/2.
pub(crate) fn write_wait(session: &ServerSession) -> Duration {
    ClientStream::of(session).map_or(Duration::ZERO, |client| client.get_write_pending_time())
}

/// Total time that reads have waited for a client: on its connection, or on the HTTP/2 stream of the request.
pub(crate) fn client_wait(session: &ServerSession) -> Option<Duration> {
    match ClientStream::of(session) {
        Some(client) => Some(client.client_wait()),
        None => H2Stream::state_of(session).map(|state| state.client_wait()),
    }
}

/// Whether the client has ended its side of a tunnel of HTTP/2, so that only the host can be late.
pub(crate) fn has_ended_tunnel(session: &ServerSession) -> bool {
    state_of(session).is_some_and(|state| state.tunnel().client_end().is_some())
}
