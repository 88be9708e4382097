//! `trusted_proxies`: whose X-Forwarded-* fields are believed.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::json;

use super::access::network;
use super::schema::{List, Scalar, list, scalar};

/// The text that stands for all peers of Unix sockets, as in nginx's `set_real_ip_from`.
const UNIX: &str = "unix:";

/// A proxy in front, or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustedProxy {
    /// Those with an address of this network.
    Network(IpNet),
    /// Those that connect to a listener that is a Unix socket.
    Unix,
}

impl TrustedProxy {
    /// Whether this is a proxy at `peer`. `None`: the peer of a Unix socket.
    pub fn includes(&self, peer: Option<IpAddr>) -> bool {
        match (self, peer) {
            (TrustedProxy::Network(network), Some(peer)) => network.contains(&peer),
            (TrustedProxy::Unix, None) => true,
            _ => false,
        }
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustedProxy::Network(network) => network.fmt(f),
            TrustedProxy::Unix => f.write_str(UNIX),
        }
    }
}

pub(super) fn trusted_proxies() -> List<Scalar<TrustedProxy>> {
    let read = |text: &str| match text {
        UNIX => Ok(TrustedProxy::Unix),
        _ => network(text).map(TrustedProxy::Network),
    };
    let dump = |proxy: &TrustedProxy| json!(proxy.to_string());
    list(
        "networks",
        scalar("a network, an address or `unix:`", read, dump),
    )
}
