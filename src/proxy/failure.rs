//! Classification of errors: whose fault they are, whether the request may be sent again, and which status the client
//! gets.

use std::io;

use h2::Reason;
use http::Method;
use pingora::{Error, ErrorSource, ErrorType};

use super::grpc::DEADLINE;
use crate::message::RequestView;
use crate::pool::Failure;
use crate::record::TerminationReason;

/// The status for the client. `None`: the client is no longer connected.
pub(crate) fn status_for(error: &Error) -> Option<u16> {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(code)) => Some(*code),
        (_, etype) if *etype == DEADLINE => Some(504),
        (ErrorSource::Upstream, etype) if is_timeout(etype) => Some(504),
        (ErrorSource::Upstream, _) => Some(502),
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(408),
        (ErrorSource::Downstream, ErrorType::ReadError) if is_malformed(error) => Some(400),
        (
            ErrorSource::Downstream,
            ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::H2Error
            | ErrorType::ConnectionClosed,
        ) => None,
        (ErrorSource::Downstream, _) => Some(400),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(500),
    }
}

/// The termination reason of a request that ended with `error`. `last` is the failure of its last attempt, if it
/// failed.
pub(crate) fn termination_for(error: &Error, last: Option<Failure>) -> TerminationReason {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(413)) => TerminationReason::TooLarge,
        (_, etype) if *etype == DEADLINE => TerminationReason::Deadline,
        // No host is left for another attempt.
        (_, ErrorType::HTTPStatus(_)) => {
            last.map_or(TerminationReason::NoHost, TerminationReason::from_failure)
        }
        (ErrorSource::Upstream, etype) if is_connecting(etype) => TerminationReason::ConnectFailed,
        (ErrorSource::Upstream, _) => TerminationReason::from_failure(host_failure(error)),
        (ErrorSource::Downstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            TerminationReason::ClientTimeout
        }
        (ErrorSource::Downstream, ErrorType::ReadError) if is_malformed(error) => {
            TerminationReason::BadRequest
        }
        (
            ErrorSource::Downstream,
            ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::H2Error
            | ErrorType::ConnectionClosed,
        ) => TerminationReason::ClientGone,
        (ErrorSource::Downstream, _) => TerminationReason::BadRequest,
        (ErrorSource::Internal | ErrorSource::Unset, _) => TerminationReason::Internal,
    }
}

/// The failure to count against a host whose attempt ended with `error` after the connection was established.
pub(crate) fn host_failure(error: &Error) -> Failure {
    match error.etype() {
        etype if is_timeout(etype) => Failure::Timeout,
        ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2 => Failure::Malformed,
        ErrorType::H2Error if !is_http2_reset(error) => Failure::Malformed,
        _ => Failure::Reset,
    }
}

/// A request that a host may have received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentRequest {
    /// The request is idempotent, or the operator declared that it may be sent twice.
    pub(crate) repeatable: bool,
    /// The body read so far is buffered.
    pub(crate) replayable: bool,
    /// The client has received part of a response.
    pub(crate) answered: bool,
}

impl SentRequest {
    /// Whether the request may be sent again.
    pub(crate) fn can_resend(self) -> bool {
        self.repeatable && self.replayable && !self.answered
    }
}

/// Size of a head that every server accepts, in bytes.
const COMMON_HEAD_SIZE: usize = 8 << 10;

/// Whether every HTTP server can be expected to respond to a request: its method is common and its head is not large. A
/// server may reject any other request by closing the connection.
pub(crate) fn is_common_request(request: RequestView<'_>) -> bool {
    let fields = request.fields.iter();
    let size = fields.map(|(name, value)| name.len() + value.len() + ": \r\n".len());
    let common = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
    ];
    common.contains(request.method)
        && request.target.len() + size.sum::<usize>() <= COMMON_HEAD_SIZE
}

/// Whether the connection to the host broke. A timeout does not count: the host may still be working on the request.
pub(crate) fn is_connection_broken(error: &Error) -> bool {
    let broken = match error.etype() {
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => true,
        ErrorType::H2Error | ErrorType::H2Downgrade => is_http2_reset(error),
        _ => false,
    };
    broken && *error.esource() == ErrorSource::Upstream
}

/// Whether the host has said, over HTTP/2, that it has not processed the request: it refused the stream, or its GOAWAY names
/// an earlier one as the last. Any request may then be sent again, RFC 9113 8.7.
pub(crate) fn is_unprocessed(error: &Error) -> bool {
    let unprocessed = |cause: &h2::Error| {
        let refuses = [Reason::REFUSED_STREAM, Reason::HTTP_1_1_REQUIRED];
        let is_refused = cause.is_reset()
            && cause
                .reason()
                .is_some_and(|reason| refuses.contains(&reason));
        // Streams that a GOAWAY does not name go on until the connection ends, which is another error.
        cause.is_remote() && (is_refused || cause.is_go_away())
    };
    *error.esource() == ErrorSource::Upstream && http2_cause(error).is_some_and(unprocessed)
}

/// Whether a stream could not be opened because its connection of HTTP/2 has ended.
pub(crate) fn is_http2_end(error: &Error) -> bool {
    *error.etype() == ErrorType::H2Error && is_http2_reset(error)
}

/// Whether the host has ended its connection of HTTP/2 before it came to the request.
pub(crate) fn is_http2_shutdown(error: &Error) -> bool {
    let is_shutdown = |cause: &h2::Error| {
        cause.is_remote() && cause.is_go_away() && cause.reason() == Some(Reason::NO_ERROR)
    };
    *error.esource() == ErrorSource::Upstream && http2_cause(error).is_some_and(is_shutdown)
}

/// Whether the host, or the end of its connection, has ended a stream of HTTP/2. All other errors of HTTP/2 are of frames
/// that make no sense.
fn is_http2_reset(error: &Error) -> bool {
    http2_cause(error).is_some_and(|cause| cause.is_remote() || cause.is_io())
}

fn http2_cause(error: &Error) -> Option<&h2::Error> {
    error.root_cause().downcast_ref()
}

/// Whether the error occurred before there was a connection.
fn is_connecting(etype: &ErrorType) -> bool {
    matches!(
        etype,
        ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::InvalidCert
            | ErrorType::HandshakeError
            | ErrorType::ConnectError
            | ErrorType::BindError
            | ErrorType::SocketError
            | ErrorType::ConnectProxyFailure
    )
}

/// Whether the client sent bytes that are not valid HTTP.
fn is_malformed(error: &Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData)
}

fn is_timeout(etype: &ErrorType) -> bool {
    matches!(
        etype,
        ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
    )
}

#[cfg(test)]
mod tests {
    use pingora::http::RequestHeader;

    use super::*;

    fn unreadable(why: io::ErrorKind) -> Box<Error> {
        Error::because(ErrorType::ReadError, "a body", io::Error::from(why)).into_down()
    }

    #[test]
    fn the_status_follows_from_the_error() {
        use ErrorType::*;
        for (error, expected) in [
            (Error::new_up(ConnectRefused), Some(502)),
            (Error::new_up(ConnectionClosed), Some(502)),
            (Error::new_up(InvalidHTTPHeader), Some(502)),
            (Error::new_up(ConnectTimedout), Some(504)),
            (Error::new_up(ReadTimedout), Some(504)),
            (Error::new_up(HTTPStatus(503)), Some(503)),
            (Error::new_down(ConnectionClosed), None),
            (Error::new_down(WriteTimedout), None),
            (Error::new_down(H2Error), None),
            (Error::new_down(ReadTimedout), Some(408)),
            (Error::new_down(InvalidHTTPHeader), Some(400)),
            (Error::new_down(ReadError), None),
            (unreadable(io::ErrorKind::InvalidData), Some(400)),
            (unreadable(io::ErrorKind::ConnectionReset), None),
            (Error::new_in(InternalError), Some(500)),
        ] {
            assert_eq!(status_for(&error), expected, "{error}");
        }
    }

    #[test]
    fn the_termination_reason_follows_from_the_error() {
        use ErrorType::*;
        for (error, expected) in [
            (
                Error::new_up(ConnectRefused),
                TerminationReason::ConnectFailed,
            ),
            (
                Error::new_up(ConnectTimedout),
                TerminationReason::ConnectFailed,
            ),
            (
                Error::new_up(ConnectionClosed),
                TerminationReason::HostReset,
            ),
            (
                Error::new_up(InvalidHTTPHeader),
                TerminationReason::HostMalformed,
            ),
            (Error::new_up(ReadTimedout), TerminationReason::HostTimeout),
            (Error::new_in(HTTPStatus(503)), TerminationReason::NoHost),
            (
                Error::new_down(HTTPStatus(413)),
                TerminationReason::TooLarge,
            ),
            (
                Error::new_down(ConnectionClosed),
                TerminationReason::ClientGone,
            ),
            (Error::new_down(H2Error), TerminationReason::ClientGone),
            (
                Error::new_down(WriteTimedout),
                TerminationReason::ClientTimeout,
            ),
            (
                Error::new_down(InvalidHTTPHeader),
                TerminationReason::BadRequest,
            ),
            (Error::new_in(InternalError), TerminationReason::Internal),
        ] {
            assert_eq!(termination_for(&error, None), expected, "{error}");
        }
        let exhausted = Error::new_in(HTTPStatus(502));
        let last = Some(Failure::Connect);
        assert_eq!(
            termination_for(&exhausted, last),
            TerminationReason::ConnectFailed
        );
    }

    #[test]
    fn a_request_is_common_by_its_method_and_size() {
        let request = |method: &str, length: usize| {
            let mut request = RequestHeader::build(method, b"/", None).expect("a request");
            let value = "x".repeat(length);
            request.insert_header("X-Long", value).expect("a field");
            request
        };
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            assert!(
                is_common_request((&request(method, 8_000)).into()),
                "{method}"
            );
            assert!(
                !is_common_request((&request(method, 8_200)).into()),
                "{method}"
            );
        }
        for method in ["FOO", "TRACE", "CONNECT", "get"] {
            assert!(!is_common_request((&request(method, 1)).into()), "{method}");
        }
    }

    #[test]
    fn client_errors_and_timeouts_are_not_broken_connections() {
        assert!(is_connection_broken(&Error::new_up(
            ErrorType::ConnectionClosed
        )));
        assert!(!is_connection_broken(&Error::new_down(
            ErrorType::ConnectionClosed
        )));
        assert!(!is_connection_broken(&Error::new_up(
            ErrorType::ReadTimedout
        )));
        assert!(!is_connection_broken(&Error::new_up(
            ErrorType::InvalidHTTPHeader
        )));
    }

    #[test]
    fn only_a_repeatable_request_without_a_response_is_sent_again() {
        let resendable = SentRequest {
            repeatable: true,
            replayable: true,
            answered: false,
        };
        assert!(resendable.can_resend());
        for other in [
            SentRequest {
                repeatable: false,
                ..resendable
            },
            SentRequest {
                replayable: false,
                ..resendable
            },
            SentRequest {
                answered: true,
                ..resendable
            },
        ] {
            assert!(!other.can_resend(), "{other:?}");
        }
    }
}
