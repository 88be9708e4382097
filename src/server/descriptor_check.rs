//! Whether the process has the descriptors that it cannot start without.
//!
//! Pingora and Tokio panic where they cannot have a runtime or a socket. So it is tried out first, and what is lacking is
//! said in one line.

use std::net::SocketAddr;

use nix::errno::Errno;

use super::StartError;
use super::edge::raise_descriptors;
use crate::resource_limits::{advice, probe_descriptors};

/// Runtimes of the process itself and of its services (each has three or four descriptors), signals, files and sockets
/// in the runtime directory: 30 as counted in a running process.
const BASE: usize = 30;

/// The socket of a listener, and the copy of it that accepts.
const PER_LISTENER: usize = 2;

/// For a client, a host, a check, a command, a file that is read anew; and the exporter of traces.
const RESERVE: usize = 8;

/// Takes as many descriptors as the process may have, and finds out whether they suffice to listen on `addresses`.
///
/// # Errors
/// They do not.
pub(super) fn ensure_sufficient(
    addresses: impl Iterator<Item = SocketAddr>,
) -> Result<(), StartError> {
    raise_descriptors();
    let wanted = BASE + PER_LISTENER * addresses.count() + RESERVE;
    probe_descriptors(wanted).map_err(|(had, error)| {
        let reason = match error.raw_os_error().map(Errno::from_raw) {
            Some(shortage) => advice(shortage),
            None => error.to_string(),
        };
        StartError::Listen(format!(
            "cannot start: {wanted} descriptors are needed at least, {had} can be had: {reason}"
        ))
    })
}
