//! What ended a request.

use crate::pool::Failure;

/// What ended a request: the answer, or who stood against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The client has the whole answer, of a host or of the proxy as an origin server.
    Complete,
    /// Refused: malformed, or of a kind that is not passed on.
    BadRequest,
    /// Refused: head, target, fields or body beyond a limit.
    TooLarge,
    /// Refused: no route has this host and path.
    NoRoute,
    /// Refused: not from this address.
    Denied,
    /// Refused: beyond a rate.
    RateLimited,
    /// Refused: `limits.max_in_flight` requests run.
    Overloaded,
    /// Refused: no host of the pool is usable.
    NoHost,
    /// Refused: every host of the pool is full, and the line in front of them is, or did not move in time.
    QueueFull,
    /// No connection to a host could be made.
    ConnectFailed,
    /// The host did not answer, or did not go on, in time.
    HostTimeout,
    /// The host's connection ended before its answer did.
    HostReset,
    /// The host's answer was not valid.
    HostMalformed,
    /// The client left before the end.
    ClientGone,
    /// The client was too slow to send its request, or to take the answer.
    ClientTimeout,
    /// The code that served it panicked, or could not go on.
    Internal,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Ending; 16] = [
        Ending::Complete,
        Ending::BadRequest,
        Ending::TooLarge,
        Ending::NoRoute,
        Ending::Denied,
        Ending::RateLimited,
        Ending::Overloaded,
        Ending::NoHost,
        Ending::QueueFull,
        Ending::ConnectFailed,
        Ending::HostTimeout,
        Ending::HostReset,
        Ending::HostMalformed,
        Ending::ClientGone,
        Ending::ClientTimeout,
        Ending::Internal,
    ];

    /// What a failure ends that no other attempt follows.
    pub fn of(failure: Failure) -> Self {
        match failure {
            Failure::Connect => Ending::ConnectFailed,
            Failure::Timeout => Ending::HostTimeout,
            Failure::Malformed => Ending::HostMalformed,
            Failure::Reset | Failure::Status(_) => Ending::HostReset,
        }
    }

    /// A short name.
    pub fn code(self) -> &'static str {
        match self {
            Ending::Complete => "complete",
            Ending::BadRequest => "bad_request",
            Ending::TooLarge => "too_large",
            Ending::NoRoute => "no_route",
            Ending::Denied => "denied",
            Ending::RateLimited => "rate_limited",
            Ending::Overloaded => "overloaded",
            Ending::NoHost => "no_host",
            Ending::QueueFull => "queue_full",
            Ending::ConnectFailed => "connect_failed",
            Ending::HostTimeout => "host_timeout",
            Ending::HostReset => "host_reset",
            Ending::HostMalformed => "host_malformed",
            Ending::ClientGone => "client_gone",
            Ending::ClientTimeout => "client_timeout",
            Ending::Internal => "internal",
        }
    }

    /// Whether a host or this process failed the request.
    pub fn is_of_host_or_proxy(self) -> bool {
        matches!(
            self,
            Ending::ConnectFailed
                | Ending::HostTimeout
                | Ending::HostReset
                | Ending::HostMalformed
                | Ending::Internal
        )
    }

    /// Whether the proxy turned the request away without asking a host.
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Ending::BadRequest
                | Ending::TooLarge
                | Ending::NoRoute
                | Ending::Denied
                | Ending::RateLimited
                | Ending::Overloaded
                | Ending::NoHost
                | Ending::QueueFull
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_told_apart() {
        let codes = HashSet::from(Ending::ALL.map(Ending::code));
        assert_eq!(codes.len(), Ending::ALL.len());
    }
}
