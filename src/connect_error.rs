//! Failed connections to hosts, as Pingora reports its own.

use std::fmt;
use std::io::{self, ErrorKind};

use pingora::{Error, ErrorType};

/// The error of a connection to `address` that could not be opened.
pub(crate) fn connect_error(error: io::Error, address: &dyn fmt::Display) -> Box<Error> {
    let error_type = match error.kind() {
        ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        _ => ErrorType::ConnectError,
    };
    Error::because(error_type, format!("cannot connect to {address}"), error)
}
