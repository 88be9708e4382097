//! The client's side of a connection: what a client may take its time for, and what becomes of it when it does not keep
//! to that, or when the code that serves it panics.
//!
//! Pingora knows the silence before each single read, not the time of a whole head, and nothing of a client that does
//! not read. So a connection's stream is a [`Client`], which watches the time where time passes: where a read or a write
//! has to wait. It costs nothing where a request comes in one piece.
//!
//! A [`Client`] also reads requests as HTTP frames them, and hands out one at a time: what has come of the next one is
//! held back until it is asked for. So each has its own deadline, and none goes past the checks, which refuse what
//! Pingora would mend and pass on. [`Guarded`] stands around the proxy and answers where the proxy cannot.
//!
//! A connection of HTTP/2 is served by a loop of our own, around the `h2` crate and Pingora's session of a stream.

mod connection;
mod digests;
mod exchange;
mod frames;
mod gate;
mod guarded;
mod h2_fields;
mod h2_heads;
mod head;
mod headless;
mod hpack;
mod huffman;
mod leaving;
mod parting;
mod socket;
mod stream;
mod upload_windows;

use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::GetTimingDigest;
use pingora::protocols::http::ServerSession;

use exchange::Exchange;

pub(super) use gate::Gate;
pub use guarded::Guarded;
pub(super) use leaving::{has_left, left, lend};
pub use stream::Client;
pub(super) use upload_windows::BUDGET as UPLOAD_BUDGET;

/// What a request's phases and the client's side tell each other; `None` if the client is not one of ours.
pub(super) fn gate(session: &ServerSession) -> Option<&Arc<Gate>> {
    match Client::of(session) {
        Some(client) => Some(client.gate()),
        None => Exchange::gate_of(session),
    }
}

/// How long writes to a client have waited for it to read, on its connection; not known of HTTP/2.
pub(super) fn stalled(session: &ServerSession) -> Duration {
    Client::of(session).map_or(Duration::ZERO, |client| client.get_write_pending_time())
}

/// How long a client has been waited for in all: on its connection, or on the stream of HTTP/2 that is the request's own.
pub(super) fn waited(session: &ServerSession) -> Option<Duration> {
    match Client::of(session) {
        Some(client) => Some(client.waited()),
        None => Exchange::gate_of(session).map(|gate| gate.waited()),
    }
}
