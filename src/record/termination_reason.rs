//! Why a request ended.

use crate::pool::Failure;

/// Why a request ended: with a response, or with a failure on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TerminationReason {
    /// The client received the whole response, from a host or from the proxy as an origin server.
    Complete,
    /// Refused: malformed, or of a kind that is not forwarded.
    BadRequest,
    /// Refused: head, target, fields or body exceed a limit.
    TooLarge,
    /// Refused: no route matches the host and path.
    NoRoute,
    /// Refused: the client's address is not allowed.
    Denied,
    /// Refused: the client has not told who it is, or may not use the route.
    Unauthorized,
    /// Refused: the authentication service cannot be reached, or its answer is not valid.
    AuthFailed,
    /// Refused: the rate limit is exceeded.
    RateLimited,
    /// Refused: `limits.max_in_flight` requests are in flight.
    Overloaded,
    /// Refused: the pool is in maintenance.
    Maintenance,
    /// Refused: no host of the pool is usable.
    NoHost,
    /// Refused: every host of the pool is full, and the queue is full or its timeout expired.
    QueueFull,
    /// No connection to a host could be opened.
    ConnectFailed,
    /// The host did not send the response, or its next part, in time.
    HostTimeout,
    /// The host's connection ended before the end of the response.
    HostReset,
    /// The host's response was malformed.
    HostMalformed,
    /// The client disconnected before the end.
    ClientGone,
    /// The client was too slow to send its request or to read the response.
    ClientTimeout,
    /// The deadline that the client of a gRPC call has set was over.
    Deadline,
    /// An internal error or a panic in the proxy.
    Internal,
}

impl TerminationReason {
    /// All reasons.
    pub const ALL: [TerminationReason; 20] = [
        TerminationReason::Complete,
        TerminationReason::BadRequest,
        TerminationReason::TooLarge,
        TerminationReason::NoRoute,
        TerminationReason::Denied,
        TerminationReason::Unauthorized,
        TerminationReason::AuthFailed,
        TerminationReason::RateLimited,
        TerminationReason::Overloaded,
        TerminationReason::Maintenance,
        TerminationReason::NoHost,
        TerminationReason::QueueFull,
        TerminationReason::ConnectFailed,
        TerminationReason::HostTimeout,
        TerminationReason::HostReset,
        TerminationReason::HostMalformed,
        TerminationReason::ClientGone,
        TerminationReason::ClientTimeout,
        TerminationReason::Deadline,
        TerminationReason::Internal,
    ];

    /// The reason for a request whose last attempt ended with `failure`.
    pub fn from_failure(failure: Failure) -> Self {
        match failure {
            Failure::Connect => TerminationReason::ConnectFailed,
            Failure::Timeout => TerminationReason::HostTimeout,
            Failure::Malformed => TerminationReason::HostMalformed,
            Failure::Reset | Failure::Status(_) => TerminationReason::HostReset,
        }
    }

    /// The name in logs and metrics.
    pub fn code(self) -> &'static str {
        match self {
            TerminationReason::Complete => "complete",
            TerminationReason::BadRequest => "bad_request",
            TerminationReason::TooLarge => "too_large",
            TerminationReason::NoRoute => "no_route",
            TerminationReason::Denied => "denied",
            TerminationReason::Unauthorized => "unauthorized",
            TerminationReason::AuthFailed => "auth_failed",
            TerminationReason::RateLimited => "rate_limited",
            TerminationReason::Overloaded => "overloaded",
            TerminationReason::Maintenance => "maintenance",
            TerminationReason::NoHost => "no_host",
            TerminationReason::QueueFull => "queue_full",
            TerminationReason::ConnectFailed => "connect_failed",
            TerminationReason::HostTimeout => "host_timeout",
            TerminationReason::HostReset => "host_reset",
            TerminationReason::HostMalformed => "host_malformed",
            TerminationReason::ClientGone => "client_gone",
            TerminationReason::ClientTimeout => "client_timeout",
            TerminationReason::Deadline => "deadline",
            TerminationReason::Internal => "internal",
        }
    }

    /// Whether a host or the proxy is at fault.
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

    /// Whether the proxy refused the request without contacting a host.
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            TerminationReason::BadRequest
                | TerminationReason::TooLarge
                | TerminationReason::NoRoute
                | TerminationReason::Denied
                | TerminationReason::Unauthorized
                | TerminationReason::AuthFailed
                | TerminationReason::RateLimited
                | TerminationReason::Overloaded
                | TerminationReason::Maintenance
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
    fn codes_are_unique() {
        let codes = HashSet::from(TerminationReason::ALL.map(TerminationReason::code));
        assert_eq!(codes.len(), TerminationReason::ALL.len());
    }
}
