//! Whether the process has the descriptors that it cannot start without.
//!
//! Pingora and Tokio panic where they cannot have a runtime or a socket. So it is tried out first, and what is lacking is
//! said in one line.

use std::net::SocketAddr;

use nix::errno::Errno;

use super::StartError;
use super::edge::raise_descriptors;
use crate::descriptors::{advice, try_out};

/// Runtimes of the process itself and of its services (each has three or four descriptors), signals, files and sockets
/// in the runtime directory: 30 as counted in a running process.
const OWN: usize = 30;

/// The socket of a listener, and the copy of it that accepts.
const PER_LISTENER: usize = 2;

/// For a client, a host, a check, a command, a file that is read anew; and the exporter of traces.
const TO_WORK_WITH: usize = 8;

/// Takes as many descriptors as the process may have, and finds out whether they suffice to listen on `addresses`.
///
/// # Errors
/// They do not.
pub(super) fn suffice(addresses: impl Iterator<Item = SocketAddr>) -> Result<(), StartError> {
    raise_descriptors();
    let wanted = OWN + PER_LISTENER * addresses.count() + TO_WORK_WITH;
    try_out(wanted).map_err(|(had, error)| {
        let reason = match error.raw_os_error().map(Errno::from_raw) {
            Some(lacking) => advice(lacking),
            None => error.to_string(),
        };
        StartError::Listen(format!(
            "cannot start: {wanted} descriptors are needed at least, {had} can be had: {reason}"
        ))
    })
}
