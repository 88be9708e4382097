//! How a request went on its host.

use std::{fmt, io};

use nix::errno::Errno;

use crate::config;
use crate::resource_limits;

/// What an answer of this status says of its host in a pool with these rules. An answer about the request says nothing
/// against the host, whichever client asks for it how often.
pub(super) fn of_status(status: u16, rules: Option<&config::Ejection>) -> Outcome {
    let named = rules.is_some_and(|rules| rules.failures.names(status));
    match named || config::Failures::is_of_host(status) {
        true => Outcome::Failure(Failure::Status(status)),
        false => Outcome::Success,
    }
}

/// How a request went on its host. One whose end was the client's doing has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The host answered as it should.
    Success,
    /// It did not.
    Failure(Failure),
}

/// What a host did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made: nothing of the request was sent.
    Connect,
    /// The answer, or the rest of it, did not come in time.
    Timeout,
    /// The connection ended before the answer was whole.
    Reset,
    /// The answer is not HTTP.
    Malformed,
    /// The answer has this status, which tells of the host's own fault.
    Status(u16),
}

impl Failure {
    /// A short name, one of a fixed few.
    pub fn code(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::Timeout => "timeout",
            Failure::Reset => "reset",
            Failure::Malformed => "malformed",
            Failure::Status(_) => "status",
        }
    }

    /// Whether the configuration takes this for a failure.
    pub(super) fn is_among(self, failures: &config::Failures) -> bool {
        match self {
            Failure::Connect => failures.connect,
            Failure::Timeout => failures.timeout,
            Failure::Reset => failures.reset,
            Failure::Malformed => failures.malformed,
            Failure::Status(status) => failures.names(status),
        }
    }
}

/// Whether an attempt failed for want of something that this process or this machine is short of, which says nothing
/// about the host.
pub fn lacks_resources(error: &pingora::Error) -> bool {
    lacking(error).is_some()
}

/// What this process or this machine was short of, if an attempt failed for that.
pub(crate) fn lacking(error: &pingora::Error) -> Option<Errno> {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    let number = cause.and_then(io::Error::raw_os_error);
    let number = number.map(Errno::from_raw);
    number.filter(|number| resource_limits::is_exhaustion(*number))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect => f.write_str("no connection"),
            Failure::Timeout => f.write_str("no answer in time"),
            Failure::Reset => f.write_str("the connection broke"),
            Failure::Malformed => f.write_str("the answer was not HTTP"),
            Failure::Status(status) => write!(f, "status {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use pingora::{Error, ErrorType};

    use super::*;

    #[test]
    fn an_answer_about_the_request_says_nothing_of_the_host() {
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
    fn what_this_machine_lacks_is_no_fault_of_a_host() {
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
