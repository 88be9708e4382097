//! The client's side of a connection: what a client may take its time for, and what becomes of it when it does not keep
//! to that, or when the code that serves it panics.
//!
//! Pingora knows the silence before each single read, not the time of a whole head, and nothing of a client that does
//! not read. So a connection's stream is a [`ClientStream`], which watches the time where time passes: where a read or a write
//! has to wait. It costs nothing where a request comes in one piece.
//!
//! A [`ClientStream`] also reads requests as HTTP frames them, and hands out one at a time: what has come of the next one is
//! held back until it is asked for. So each has its own deadline, and none goes past the checks, which refuse what
//! Pingora would mend and pass on. [`PanicGuard`] stands around the proxy and answers where the proxy cannot.
//!
//! A connection of HTTP/2 is served by a loop of our own, around the `h2` crate and Pingora's session of a stream.

mod connection_state;
mod digests;
mod disconnect;
mod early_error;
mod head_scanner;
mod http2;
mod lingering_close;
mod panic_guard;
mod socket;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::GetTimingDigest;
use pingora::protocols::http::ServerSession;

use http2::H2Stream;

pub(crate) use connection_state::ConnectionState;
pub(super) use disconnect::{check_disconnect, lend_socket, wait_for_disconnect};
pub(crate) use http2::UPLOAD_WINDOW_BUDGET;
pub use panic_guard::PanicGuard;
pub use stream::ClientStream;

/// What a request's phases and the client's side tell each other; `None` if the client is not one of ours.
pub(crate) fn state_of(session: &ServerSession) -> Option<&Arc<ConnectionState>> {
    match ClientStream::of(session) {
        Some(client) => Some(client.state()),
        None => H2Stream::state_of(session),
    }
}

/// How long writes to a client have waited for it to read, on its connection; not known of HTTP/2.
pub(crate) fn write_wait(session: &ServerSession) -> Duration {
    ClientStream::of(session).map_or(Duration::ZERO, |client| client.get_write_pending_time())
}

/// How long a client has been waited for in all: on its connection, or on the stream of HTTP/2 that is the request's own.
pub(crate) fn client_wait(session: &ServerSession) -> Option<Duration> {
    match ClientStream::of(session) {
        Some(client) => Some(client.client_wait()),
        None => H2Stream::state_of(session).map(|state| state.client_wait()),
    }
}
