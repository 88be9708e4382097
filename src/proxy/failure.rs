//! What a failed attempt means: whose fault it was, whether the request may be sent again, and what the client is told.

use pingora::{Error, ErrorSource, ErrorType};

use crate::pool::Failure;

/// The status for the client; `None` if nobody is there to read it.
pub(super) fn status(error: &Error) -> Option<u16> {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(code)) => Some(*code),
        (ErrorSource::Upstream, etype) if is_timeout(etype) => Some(504),
        (ErrorSource::Upstream, _) => Some(502),
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(408),
        (
            ErrorSource::Downstream,
            ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::ConnectionClosed,
        ) => None,
        (ErrorSource::Downstream, _) => Some(400),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(500),
    }
}

/// What the host did wrong that an attempt ended so, once there was a connection.
pub(super) fn of_host(error: &Error) -> Failure {
    match error.etype() {
        etype if is_timeout(etype) => Failure::Timeout,
        ErrorType::InvalidHTTPHeader => Failure::Malformed,
        _ => Failure::Reset,
    }
}

/// A connection that broke while a request was on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Break {
    /// Sending the request twice has the same effect as once.
    pub(super) idempotent: bool,
    /// What has been read of the request's body can be sent again.
    pub(super) replayable: bool,
    /// The host has begun to answer.
    pub(super) answered: bool,
    /// The client has got a part of an answer.
    pub(super) written: bool,
}

impl Break {
    /// Whether the request may go out again. A timeout is no break: the host may still be at work.
    pub(super) fn may_resend(self, error: &Error) -> bool {
        let broken = matches!(
            error.etype(),
            ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed
        );
        broken
            && *error.esource() == ErrorSource::Upstream
            && self.idempotent
            && self.replayable
            && !self.answered
            && !self.written
    }
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
    use super::*;

    #[test]
    fn the_status_tells_whose_fault_it_was() {
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
            (Error::new_down(ReadTimedout), Some(408)),
            (Error::new_down(InvalidHTTPHeader), Some(400)),
            (Error::new_in(InternalError), Some(500)),
        ] {
            assert_eq!(status(&error), expected, "{error}");
        }
    }

    #[test]
    fn only_an_idempotent_request_without_any_answer_goes_out_again() {
        let good = Break {
            idempotent: true,
            replayable: true,
            answered: false,
            written: false,
        };
        let closed = Error::new_up(ErrorType::ConnectionClosed);
        assert!(good.may_resend(&closed));
        assert!(!good.may_resend(&Error::new_down(ErrorType::ConnectionClosed)));
        assert!(!good.may_resend(&Error::new_up(ErrorType::ReadTimedout)));
        assert!(!good.may_resend(&Error::new_up(ErrorType::InvalidHTTPHeader)));
        for bad in [
            Break {
                idempotent: false,
                ..good
            },
            Break {
                replayable: false,
                ..good
            },
            Break {
                answered: true,
                ..good
            },
            Break {
                written: true,
                ..good
            },
        ] {
            assert!(!bad.may_resend(&closed), "{bad:?}");
        }
    }
}
