//! The input of a selection: what a balancer knows about a request.

use std::net::IpAddr;

use super::host::HostId;

/// A request as input for a balancer. It borrows everything; creating one is free.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    key: Option<&'a [u8]>,
    client: Option<IpAddr>,
    tried: &'a [HostId],
}

impl<'a> Selection<'a> {
    /// A request without a key and client address that has tried no host.
    pub fn new() -> Self {
        Selection::default()
    }

    /// Sets the key that the hashing algorithms map to a host.
    pub fn key(self, key: &'a [u8]) -> Self {
        Selection {
            key: Some(key),
            ..self
        }
    }

    /// Sets the client's address, for `ip_hash`. The port is irrelevant.
    pub fn client(self, client: IpAddr) -> Self {
        Selection {
            client: Some(client),
            ..self
        }
    }

    /// Sets the hosts that have failed this request. None of them is picked while another is left.
    pub fn tried(self, tried: &'a [HostId]) -> Self {
        Selection { tried, ..self }
    }

    pub(crate) fn hash_key(&self) -> Option<&'a [u8]> {
        self.key
    }

    pub(crate) fn client_address(&self) -> Option<IpAddr> {
        self.client
    }

    /// The hosts that have failed this request.
    pub fn tried_hosts(&self) -> &'a [HostId] {
        self.tried
    }
}
