//! The outcome of a request on its host.

use std::{fmt, io};

use nix::errno::Errno;

use crate::config;
use crate::resource_limits;

/// The outcome that a response status means under these rules. A status about the request never counts against the
/// host, no matter which client asks for it how often.
pub(super) fn of_status(status: u16, rules: Option<&config::Ejection>) -> Outcome {
    let named = rules.is_some_and(|rules| rules.failures.includes(status));
    match named || config::Failures::is_of_host(status) {
        true => Outcome::Failure(Failure::Status(status)),
        false => Outcome::Success,
    }
}

/// The outcome of a request on its host. A request that the client ended has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The host responded properly.
    Success,
    /// The host failed.
    Failure(Failure),
}

/// How a host failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made; nothing of the request was sent.
    Connect,
    /// The response, or the rest of it, did not arrive in time.
    Timeout,
    /// The connection ended before the response was complete.
    Reset,
    /// The response is not HTTP.
    Malformed,
    /// The response has a status that counts as the host's own failure.
    Status(u16),
}

impl Failure {
    /// A short name from a fixed set.
    pub fn code(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::Timeout => "timeout",
            Failure::Reset => "reset",
            Failure::Malformed => "malformed",
            Failure::Status(_) => "status",
        }
    }

    /// Whether the configuration counts this as a failure.
    pub(super) fn is_among(self, failures: &config::Failures) -> bool {
        match self {
            Failure::Connect => failures.connect,
            Failure::Timeout => failures.timeout,
            Failure::Reset => failures.reset,
            Failure::Malformed => failures.malformed,
            Failure::Status(status) => failures.includes(status),
        }
    }
}

/// Whether an attempt failed because this process or machine lacked a resource, such as file descriptors. That says
/// nothing about the host.
pub fn lacks_resources(error: &pingora::Error) -> bool {
    exhausted_resource(error).is_some()
}

/// The resource error of this process or machine that made an attempt fail, if one did.
pub(crate) fn exhausted_resource(error: &pingora::Error) -> Option<Errno> {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    let number = cause.and_then(io::Error::raw_os_error);
    let number = number.map(Errno::from_raw);
    number.filter(|number| resource_limits::is_exhaustion(*number))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect => f.write_str("no connection"),
            Failure::Timeout => f.write_str("no response in time"),
            Failure::Reset => f.write_str("the connection broke"),
            Failure::Malformed => f.write_str("the response was not HTTP"),
            Failure::Status(status) => write!(f, "status {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use pingora::{Error, ErrorType};

    use super::*;

    #[test]
    fn a_status_about_the_request_does_not_count_against_the_host() {
        for status in 200..600 {
            let counts = matches!(status, 500 | 502..=504 | 520..=529);
            let expected = match counts {
                true => Outcome::Failure(Failure::Status(status)),
                false => Outcome::Success,
            };
            assert_eq!(of_status(status, None), expected, "{status}");
        }
    }

    #[test]
    fn exhausted_local_resources_do_not_count_against_a_host() {
        let with = |number: Errno| {
            let cause = io::Error::from_raw_os_error(number as i32);
            let error = Error::because(ErrorType::ConnectError, "connect", cause);
            Error::because(ErrorType::InternalError, "around it", error)
        };
        assert!(lacks_resources(&with(Errno::EMFILE)));
        assert!(!lacks_resources(&with(Errno::ECONNREFUSED)));
        assert!(!lacks_resources(&Error::new_up(ErrorType::ConnectTimedout)));
    }
}
