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

section! {
    /// What a pool says of `timeouts` itself; the rest comes from the top level.
    pub struct PoolTimeouts: Copy, Eq, Default {
        /// For a connection to a host, TLS included.
        connect: Option<Duration> { time(), optional "3s" },
        /// The longest silence of a host that owes a response, and of a client that owes the rest of a request.
        read: Option<Duration> { time(), optional "60s" },
        /// The longest time that a write to a host or a client may stall.
        write: Option<Duration> { time(), optional "60s" },
        /// How long an unused connection to a host is kept.
        idle: Option<Duration> { time(), optional "60s" },
        /// The longest silence of both sides of an upgraded connection.
        tunnel: Option<Duration> { time(), optional "1h" },
    }
}

section! {
    /// What a route says of `timeouts` itself; the rest comes from the pool, or else from the top level.
    pub struct RouteTimeouts: Copy, Eq, Default {
        /// For a connection to a host, TLS included.
        connect: Option<Duration> { time(), optional "3s" },
        /// The longest silence of a host that owes a response, and of a client that owes the rest of a request.
        read: Option<Duration> { time(), optional "5m" },
        /// The longest time that a write to a host or a client may stall.
        write: Option<Duration> { time(), optional "60s" },
        /// The longest silence of both sides of an upgraded connection.
        tunnel: Option<Duration> { time(), optional "24h" },
    }
}

impl PoolTimeouts {
    /// The timeouts of the pool, where `above` has those of the top level.
    pub fn over(&self, above: Timeouts) -> Timeouts {
        Timeouts {
            connect: self.connect.unwrap_or(above.connect),
            read: self.read.unwrap_or(above.read),
            write: self.write.unwrap_or(above.write),
            idle: self.idle.unwrap_or(above.idle),
            tunnel: self.tunnel.unwrap_or(above.tunnel),
            ..above
        }
    }
}

impl RouteTimeouts {
    /// The timeouts of the route's requests, where `above` has those of their pool.
    pub fn over(&self, above: Timeouts) -> Timeouts {
        Timeouts {
            connect: self.connect.unwrap_or(above.connect),
            read: self.read.unwrap_or(above.read),
            write: self.write.unwrap_or(above.write),
            tunnel: self.tunnel.unwrap_or(above.tunnel),
            ..above
        }
    }
}
