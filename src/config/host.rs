//! A host of a pool, wherever it comes from.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::environment::{Names, System, resolve_all};
use super::host_port::{HostPort, parse_host_port};
use super::host_source::HostSource;
use ballast_balancer::{self as balancer, HostId};

/// A server that requests are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The `host:port` or `unix:/path` of the file, as written, or the address that a source has told.
    pub id: HostId,
    /// The name or address before the port: names in lower case, IPv6 addresses without brackets. Of a Unix socket the whole
    /// `unix:/path`.
    pub name: String,
    /// The name by which a source knows it, for TLS and the Host field; `None`: that is `name`.
    pub server_name: Option<String>,
    /// What people call it; `None`: its `id`.
    pub label: Option<String>,
    /// What the file or its source says about it.
    pub labels: BTreeMap<String, String>,
    /// Where it comes from; `None`: from the file, or from an operator.
    pub source: Option<HostSource>,
    /// Whether its source does not name it any more, so that it stays only until enough others are usable.
    pub is_leaving: bool,
    /// The address of `id`.
    pub address: balancer::HostAddress,
    /// 0 to 10,000; 0: the host is drained.
    pub weight: u32,
    /// The weight in the file or by the source, where an operator may have set another; `None` for a host that an operator has
    /// added.
    pub file_weight: Option<u32>,
    /// Used only while no other host is usable.
    pub backup: bool,
    /// Requests on this host at the same time, the limit of its pool included; `None`: no limit.
    pub max_in_flight: Option<u64>,
}

impl Host {
    /// A host of weight 1 that is in no file, known by its `host:port`. Blocks while a name is resolved.
    ///
    /// # Errors
    /// `text` is not a `host:port`, or its name cannot be resolved.
    pub fn find(text: &str) -> Result<Host, String> {
        let host_port = parse_host_port(text)?;
        let names = match &host_port {
            HostPort::Address(_) => Names::new(),
            HostPort::Name(name, _) => resolve_all(BTreeSet::from([name.clone()]), &System),
        };
        let address = host_port.address(&names)?;
        Ok(Host::new(text, host_port.into_name(), address))
    }

    /// The same host, whose name was resolved to `address` before.
    ///
    /// # Errors
    /// `text` is not a `host:port`.
    pub fn at(text: &str, address: balancer::HostAddress) -> Result<Host, String> {
        Ok(Host::new(text, parse_host_port(text)?.into_name(), address))
    }

    /// Whether both are the same server, however it is spelled.
    pub fn is_same(&self, other: &Host) -> bool {
        (&self.name, self.address.port()) == (&other.name, other.address.port())
    }

    /// What a request of its own to this host names as its authority: the name by which it is known, with its port, or
    /// `localhost` for a Unix socket.
    pub fn authority(&self) -> Cow<'_, str> {
        match (self.address.port(), &self.server_name) {
            (None, _) => Cow::Borrowed("localhost"),
            (Some(port), Some(name)) => Cow::Owned(format!("{name}:{port}")),
            (Some(_), None) => Cow::Borrowed(self.id.as_str()),
        }
    }

    /// A host of weight 1, known by `text`.
    pub(super) fn new(text: &str, name: String, address: balancer::HostAddress) -> Host {
        Host {
            id: HostId::from(text),
            name,
            server_name: None,
            label: None,
            labels: BTreeMap::new(),
            source: None,
            is_leaving: false,
            address,
            weight: 1,
            file_weight: None,
            backup: false,
            max_in_flight: None,
        }
    }
}
