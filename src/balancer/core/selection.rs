//! What a balancer may look at when it chooses.

use std::net::IpAddr;

use super::host::HostId;

/// One request, as the balancers see it. It borrows everything; making one costs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    key: Option<&'a [u8]>,
    client: Option<IpAddr>,
    tried: &'a [HostId],
}

impl<'a> Selection<'a> {
    /// A request without a key, of an unknown client, that has tried no host.
    pub fn new() -> Self {
        Selection::default()
    }

    /// The bytes that the hashing algorithms map to a host.
    pub fn key(self, key: &'a [u8]) -> Self {
        Selection {
            key: Some(key),
            ..self
        }
    }

    /// The client's address, for `ip_hash`. A port would not matter, so there is none.
    pub fn client(self, client: IpAddr) -> Self {
        Selection {
            client: Some(client),
            ..self
        }
    }

    /// The hosts that this request has failed on. None of them is chosen while another is left.
    pub fn tried(self, tried: &'a [HostId]) -> Self {
        Selection { tried, ..self }
    }

    pub(crate) fn hash_key(&self) -> Option<&'a [u8]> {
        self.key
    }

    pub(crate) fn client_address(&self) -> Option<IpAddr> {
        self.client
    }

    pub(crate) fn tried_hosts(&self) -> &'a [HostId] {
        self.tried
    }
}
