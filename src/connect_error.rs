//! Failed connections to hosts, as Pingora reports its own.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use pingora::{Error, ErrorType};

/// The error of a TCP connection to `address` that could not be opened.
pub(crate) fn connect_error(error: io::Error, address: &SocketAddr) -> Box<Error> {
    let error_type = match error.kind() {
        ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        _ => ErrorType::ConnectError,
    };
    Error::because(error_type, format!("cannot connect to {address}"), error)
}
