//! What a lookup gives.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// The addresses of a name: all A and AAAA records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressAnswer {
    /// At least one; sorted and each once, in whatever order the server gives them. IPv6 addresses are among them whether
    /// or not this machine has a route to them: checks of the hosts find out.
    pub(crate) addresses: Vec<IpAddr>,
    /// For how long this holds: the shortest TTL of the records, within `min_ttl` and `max_ttl`.
    pub(crate) ttl: Duration,
    /// Whether an address that is missing here has gone. Not so if one family could not be looked up, or if not all records
    /// were taken.
    pub(crate) is_complete: bool,
    /// The families of which all addresses are there, although the other could not be looked up.
    pub(crate) whole: WholeFamilies,
}

/// For each family whether all of its addresses are there, and at least one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WholeFamilies {
    pub(crate) v4: bool,
    pub(crate) v6: bool,
}

/// The targets of a service: its SRV records, with their addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceAnswer {
    /// At least one with an address; sorted by priority, name and port, and each once.
    pub(crate) targets: Vec<ServiceTarget>,
    /// For how long this holds: the shortest TTL of all records, within `min_ttl` and `max_ttl`.
    pub(crate) ttl: Duration,
    /// Whether a target or an address that is missing here has gone.
    pub(crate) is_complete: bool,
}

/// A target of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServiceTarget {
    /// Targets with a lower one come first, those with a higher one stand in for them.
    pub(crate) priority: u16,
    /// In lower case, without a dot at the end.
    pub(crate) name: String,
    pub(crate) port: u16,
    /// Its share among those of the same priority; 0 is for a share that is as small as can be.
    pub(crate) weight: u16,
    /// As in [`AddressAnswer`]; empty if the name could not be looked up.
    pub(crate) addresses: Vec<IpAddr>,
}

/// Why there is no answer. Neither is a reason to remove hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DnsError {
    /// A server says that there is no such name, that it has no such records, or that the service is not offered.
    Empty,
    /// No server gave an answer; why, for people.
    Failed(String),
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsError::Empty => f.write_str("DNS has no records of this name"),
            DnsError::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for DnsError {}
