//! `timeouts`: how long anything may take.

use std::time::Duration;

use super::schema::{section, time};

section! {
    /// `timeouts`: all of them are finite and above 0.
    pub struct Timeouts: Copy, Eq {
        /// For a connection to a host, TLS included; then another host is tried.
        connect: Duration { time(), default "3s" },
        /// The longest silence of a host that owes a response, and of a client that owes the rest of a request.
        read: Duration { time(), default "60s" },
        /// The longest time that a write to a host or a client may stall.
        write: Duration { time(), default "60s" },
        /// How long an unused connection to a host is kept for the next request.
        idle: Duration { time(), default "60s" },
        /// For the whole head of a request, from its first byte; for the first request of a connection from the
        /// connection's beginning, and for a TLS handshake.
        client_head: Duration { time(), default "10s" },
        /// How long a client's connection may be silent between two requests.
        client_keepalive: Duration { time(), default "75s" },
        /// The longest silence of both sides of a WebSocket or another upgraded connection. Once one side has ended, the
        /// other may be silent for `read`.
        tunnel: Duration { time(), default "1h" },
    }
}
