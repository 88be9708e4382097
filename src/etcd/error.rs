//! Why a request to etcd failed, and whether another endpoint may be asked.

use std::error::Error;
use std::fmt;

use tonic::{Code, ConnectError, Status};

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EtcdError {
    /// No endpoint has answered. Nothing was changed.
    Unavailable(String),
    /// The connection broke or the time was over after a change had been sent: it may have been made or not.
    OutcomeUnknown(String),
    /// There is no such lease, or it has ended.
    LeaseNotFound,
    /// etcd refuses the request, or its answer is not one. A repetition would fail as well.
    Refused(String),
}

impl fmt::Display for EtcdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EtcdError::Unavailable(reason) => write!(f, "etcd does not answer: {reason}"),
            EtcdError::OutcomeUnknown(reason) => {
                write!(
                    f,
                    "it is unknown whether etcd has made the change: {reason}"
                )
            }
            EtcdError::LeaseNotFound => f.write_str("the lease has ended"),
            EtcdError::Refused(reason) => write!(f, "etcd refuses: {reason}"),
        }
    }
}

impl Error for EtcdError {}

/// How one request to one endpoint failed.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// The request was not executed.
    NotExecuted(String),
    /// The connection or the answer broke off: it is unknown whether the request was executed.
    Broken(String),
    /// The time was over: it is unknown whether the request was executed.
    Late(String),
    /// The token is not valid (any more). The request was not executed.
    InvalidToken(String),
    /// The answer of the cluster, which other endpoints would repeat.
    Final(EtcdError),
}

/// Messages of a member that has refused a request before it was proposed to the cluster, although others may take it.
const NOT_EXECUTED: [&str; 3] = [
    "etcdserver: no leader",
    "etcdserver: not capable",
    "etcdserver: too many requests",
];

/// Messages about a token that a new one mends: it is unknown, older than a change of users, or missing because
/// authentication has been turned on.
const INVALID_TOKEN: [&str; 3] = [
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",
];

const LEASE_NOT_FOUND: &str = "etcdserver: requested lease not found";

impl From<Status> for AttemptError {
    fn from(status: Status) -> Self {
        let message = status.message();
        if INVALID_TOKEN.contains(&message) {
            return AttemptError::InvalidToken(message.to_owned());
        }
        if message == LEASE_NOT_FOUND {
            return AttemptError::Final(EtcdError::LeaseNotFound);
        }
        let reason = describe_status(&status);
        if NOT_EXECUTED.contains(&message)
            || causes(&status).any(|cause| cause.is::<ConnectError>())
        {
            return AttemptError::NotExecuted(reason);
        }
        match status.code() {
            // A broken connection or message, a lost leader, a member that stops.
            Code::Aborted
            | Code::Cancelled
            | Code::DataLoss
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Unavailable
            | Code::Unknown => AttemptError::Broken(reason),
            _ => AttemptError::Final(EtcdError::Refused(reason)),
        }
    }
}

/// The message of a status with its first cause.
fn describe_status(status: &Status) -> String {
    let message = match status.message() {
        "" => status.code().description(),
        message => message,
    };
    with_first_cause(message, status)
}

/// An error with its first cause, such as `Connection refused (os error 111)`.
pub(super) fn describe(error: &(dyn Error + 'static)) -> String {
    with_first_cause(&error.to_string(), error)
}

fn with_first_cause(message: &str, error: &(dyn Error + 'static)) -> String {
    match causes(error).last().map(ToString::to_string) {
        Some(cause) if !message.contains(&cause) => format!("{message}: {cause}"),
        _ => message.to_owned(),
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| (*cause).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_another_endpoint_may_be_asked() {
        let attempt = |code, message: &str| AttemptError::from(Status::new(code, message));
        let no_leader = attempt(Code::Unavailable, "etcdserver: no leader");
        assert!(matches!(no_leader, AttemptError::NotExecuted(_)));
        let late = attempt(Code::Unavailable, "etcdserver: request timed out");
        assert!(matches!(late, AttemptError::Broken(_)));
        let token = attempt(Code::Unauthenticated, "etcdserver: invalid auth token");
        assert!(matches!(token, AttemptError::InvalidToken(_)));
        let lease = attempt(Code::NotFound, LEASE_NOT_FOUND);
        assert!(matches!(
            lease,
            AttemptError::Final(EtcdError::LeaseNotFound)
        ));
        let denied = attempt(Code::PermissionDenied, "etcdserver: permission denied");
        assert!(matches!(denied, AttemptError::Final(EtcdError::Refused(_))));
    }

    #[test]
    fn a_status_without_a_message_is_described_by_its_code() {
        assert!(!describe_status(&Status::new(Code::Unknown, "")).is_empty());
    }
}
