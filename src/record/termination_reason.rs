//! What ended a request.

use crate::pool::Failure;

/// What ended a request: the answer, or who stood against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TerminationReason {
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

impl TerminationReason {
    /// Every ending.
    pub const ALL: [TerminationReason; 16] = [
        TerminationReason::Complete,
        TerminationReason::BadRequest,
        TerminationReason::TooLarge,
        TerminationReason::NoRoute,
        TerminationReason::Denied,
        TerminationReason::RateLimited,
        TerminationReason::Overloaded,
        TerminationReason::NoHost,
        TerminationReason::QueueFull,
        TerminationReason::ConnectFailed,
        TerminationReason::HostTimeout,
        TerminationReason::HostReset,
        TerminationReason::HostMalformed,
        TerminationReason::ClientGone,
        TerminationReason::ClientTimeout,
        TerminationReason::Internal,
    ];

    /// What a failure ends that no other attempt follows.
    pub fn from_failure(failure: Failure) -> Self {
        match failure {
            Failure::Connect => TerminationReason::ConnectFailed,
            Failure::Timeout => TerminationReason::HostTimeout,
            Failure::Malformed => TerminationReason::HostMalformed,
            Failure::Reset | Failure::Status(_) => TerminationReason::HostReset,
        }
    }

    /// A short name.
    pub fn code(self) -> &'static str {
        match self {
            TerminationReason::Complete => "complete",
            TerminationReason::BadRequest => "bad_request",
            TerminationReason::TooLarge => "too_large",
            TerminationReason::NoRoute => "no_route",
            TerminationReason::Denied => "denied",
            TerminationReason::RateLimited => "rate_limited",
            TerminationReason::Overloaded => "overloaded",
            TerminationReason::NoHost => "no_host",
            TerminationReason::QueueFull => "queue_full",
            TerminationReason::ConnectFailed => "connect_failed",
            TerminationReason::HostTimeout => "host_timeout",
            TerminationReason::HostReset => "host_reset",
            TerminationReason::HostMalformed => "host_malformed",
            TerminationReason::ClientGone => "client_gone",
            TerminationReason::ClientTimeout => "client_timeout",
            TerminationReason::Internal => "internal",
        }
    }

    /// Whether a host or this process failed the request.
    pub fn is_server_fault(self) -> bool {
        matches!(
            self,
            TerminationReason::ConnectFailed
                | TerminationReason::HostTimeout
                | TerminationReason::HostReset
                | TerminationReason::HostMalformed
                | TerminationReason::Internal
        )
    }

    /// Whether the proxy turned the request away without asking a host.
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            TerminationReason::BadRequest
                | TerminationReason::TooLarge
                | TerminationReason::NoRoute
                | TerminationReason::Denied
                | TerminationReason::RateLimited
                | TerminationReason::Overloaded
                | TerminationReason::NoHost
                | TerminationReason::QueueFull
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_told_apart() {
        let codes = HashSet::from(TerminationReason::ALL.map(TerminationReason::code));
        assert_eq!(codes.len(), TerminationReason::ALL.len());
    }
}
