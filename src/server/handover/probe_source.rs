//! The address from which a predecessor connects to a listener of its successor, by which that one knows it.

use std::io;
use std::net::SocketAddr;

use rustix::net::{SocketAddrAny, SocketAddrUnix};
use serde::{Deserialize, Serialize};

use crate::thread_random::thread_random;

/// The address of a probe. Clients cannot have it while the probe's socket is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum ProbeSource {
    /// Of a TCP connection.
    Inet(SocketAddr),
    /// Of a connection to a Unix socket: a name in the kernel's abstract namespace.
    Unix(String),
}

impl ProbeSource {
    /// A name for a connection to a Unix socket, of which there is no other on this machine.
    pub(super) fn new_unix() -> Self {
        ProbeSource::Unix(format!("ballast-probe-{:016x}", thread_random()))
    }

    /// The address that a socket binds to before it connects to a Unix socket.
    pub(super) fn abstract_address(&self) -> io::Result<SocketAddrUnix> {
        match self {
            ProbeSource::Unix(name) => Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?),
            ProbeSource::Inet(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// The address of the other end of an accepted connection; `None` if no probe has such a one.
    pub(super) fn of_peer(peer: &SocketAddrAny) -> Option<Self> {
        if let Ok(inet) = SocketAddr::try_from(peer.clone()) {
            return Some(ProbeSource::Inet(inet));
        }
        let unix = SocketAddrUnix::try_from(peer.clone()).ok()?;
        let name = std::str::from_utf8(unix.abstract_name()?).ok()?;
        Some(ProbeSource::Unix(name.to_owned()))
    }

    /// Whether both ends mean the same address. The scope of an IPv6 address may differ.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (ProbeSource::Inet(one), ProbeSource::Inet(other)) => {
                (one.ip(), one.port()) == (other.ip(), other.port())
            }
            _ => self == other,
        }
    }
}
