//! Checks that the process has enough file descriptors to start.
//!
//! Pingora and Tokio panic if they cannot create a runtime or a socket. The check runs before them and reports a
//! shortage in one line.

use nix::errno::Errno;

use super::StartError;
use super::edge::raise_descriptors;
use crate::resource_limits::{advice, probe_descriptors};

/// The runtimes of the process and of its services (three or four descriptors each), signals, files and sockets in the
/// runtime directory: 30, counted in a running process.
const BASE: usize = 30;

/// The socket of a listener, and its duplicate that accepts.
const PER_LISTENER: usize = 2;

/// One client, one host, one health check, one command, one reloaded file, and the exporter of traces.
const RESERVE: usize = 8;

/// Raises the limit of descriptors as far as allowed, and checks that it suffices to listen on so many `addresses`.
///
/// # Errors
/// It does not suffice.
pub(super) fn ensure_sufficient(addresses: usize) -> Result<(), StartError> {
    raise_descriptors();
    let wanted = BASE + PER_LISTENER * addresses + RESERVE;
    probe_descriptors(wanted).map_err(|(had, error)| {
        let reason = match error.raw_os_error().map(Errno::from_raw) {
            Some(shortage) => advice(shortage),
            None => error.to_string(),
        };
        StartError::Listen(format!(
            "cannot start: at least {wanted} descriptors are needed, {had} are available: {reason}"
        ))
    })
}
