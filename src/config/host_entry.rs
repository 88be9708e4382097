//! `hosts`: the servers of a pool, and the sources that know further ones.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::document::{Content, Node};
use super::hints::quote;
use super::host::Host;
use super::host_label::{label, labels};
use super::host_port::{HostPort, is_name, parse_host_port};
use super::host_source::HostSource;
use super::schema::{
    Kind, List, Reader, Scalar, boolean, choice, converted, list, map_of, or_zero, scalar, section,
    whole,
};
use ballast_balancer::{self as balancer, MAX_WEIGHT};

section! {
    /// A server that requests are sent to, or servers that DNS knows.
    pub(super) struct HostKeys: Eq {
        /// host:port, or `unix:/path` for a Unix socket. All addresses of a name, IPv4 and IPv6, are hosts, each known by its own address and port. The name is
        /// resolved again as its TTL says, see `discovery.dns`.
        address: Option<HostAddress> { host_address(), alternative "127.0.0.1:8081" },
        /// In place of `address` a name with SRV records: their targets are hosts, with the ports and weights of the records.
        /// Those of the lowest priority are primary hosts, all others backups.
        srv: Option<String> { service_name(), optional "_http._tcp.app.internal" },
        /// `once`: a name is one host, known by its host:port, whose first address is found by the system's resolver when the
        /// file is read; if there is none, the file is refused.
        resolve: Resolve {
            choice(&[("auto", Resolve::Auto), ("once", Resolve::Once)]),
            default "auto"
        },
        /// What `ballast status` and the dashboard call it; without it its host:port.
        name: Option<String> { label(), optional "app-2" },
        /// Its share of requests, 0 to 10000; each address of a name has it. 0 drains the host: it is used only while all others
        /// are down.
        weight: Option<u32> { whole(0..=MAX_WEIGHT), optional "1" },
        /// Whether it is used only while no other host is usable.
        backup: bool { boolean(), default "false" },
        /// Its requests at the same time; without it the pool's `limits.max_in_flight`. 0: no limit.
        max_in_flight: Option<Option<u64>> { or_zero(whole(0..=u64::MAX)), optional "0" },
        /// What else is known about it; shown with it, and used for nothing.
        labels: Vec<(String, String)> { labels(), default "{}" },
    }
}

/// `resolve` of a host: when its name is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// Again and again.
    Auto,
    /// When the file is read.
    Once,
}

/// An element of `hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// What it names.
    pub target: HostTarget,
    /// The settings of each host that it stands for.
    pub settings: HostSettings,
}

/// What the file says of a host, or of all those of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSettings {
    /// What people call it.
    pub label: Option<String>,
    /// 0 to 10,000.
    pub weight: u32,
    /// Used only while no other host is usable.
    pub backup: bool,
    /// Requests at the same time, the limit of the pool included; `None`: no limit.
    pub max_in_flight: Option<u64>,
    /// What else is known about it.
    pub labels: BTreeMap<String, String>,
}

impl HostSettings {
    /// Those of hosts of which the file says nothing, in a pool with this limit.
    pub fn with_limit(max_in_flight: Option<u64>) -> Self {
        HostSettings {
            label: None,
            weight: 1,
            backup: false,
            max_in_flight,
            labels: BTreeMap::new(),
        }
    }

    /// A host with these settings, known by `id`.
    pub fn host(&self, id: &str, name: String, address: balancer::HostAddress) -> Host {
        Host {
            label: self.label.clone(),
            weight: self.weight,
            file_weight: Some(self.weight),
            backup: self.backup,
            max_in_flight: self.max_in_flight,
            labels: self.labels.clone(),
            ..Host::new(id, name, address)
        }
    }
}

/// What an element of `hosts` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostTarget {
    /// One host.
    Address {
        /// The `host:port` or `unix:/path` of the file, as written.
        text: String,
        /// The name or address before the port, or all of `unix:/path`.
        name: String,
        /// Where the host is.
        address: balancer::HostAddress,
        /// Whether the address is that of a name, found when the file was read.
        is_resolved: bool,
    },
    /// All addresses of a name.
    Name {
        /// The `host:port` of the file, as written.
        text: String,
        /// The name before the port, in lower case.
        name: String,
        /// The port.
        port: u16,
    },
    /// The targets of the SRV records of a name, in lower case.
    Srv(String),
}

impl HostEntry {
    /// The source of the hosts that it stands for; `None`: it is one host.
    pub fn source(&self) -> Option<HostSource> {
        match &self.target {
            HostTarget::Address { .. } => None,
            HostTarget::Name { name, .. } => Some(HostSource::Name(name.clone())),
            HostTarget::Srv(name) => Some(HostSource::Srv(name.clone())),
        }
    }

    /// The port of its hosts, unless their source tells it.
    pub fn port(&self) -> Option<u16> {
        match &self.target {
            HostTarget::Address { address, .. } => address.port(),
            HostTarget::Name { port, .. } => Some(*port),
            HostTarget::Srv(_) => None,
        }
    }

    /// The host that it is, unless it names a source.
    pub fn host(&self) -> Option<Host> {
        let HostTarget::Address {
            text,
            name,
            address,
            ..
        } = &self.target
        else {
            return None;
        };
        Some(self.settings.host(text, name.clone(), address.clone()))
    }
}

/// The value of `hosts`. Hosts without a limit of their own have that of the pool, which `Pool` adds.
pub(super) fn hosts() -> List<impl Kind<Value = HostEntry>> {
    entries().checked(entries_serve)
}

/// Hosts as under `hosts`, wherever they stand.
pub(super) fn entries() -> List<impl Kind<Value = HostEntry>> {
    let host = converted(
        map_of::<HostKeys>().short_for("address"),
        read_entry,
        entry_keys,
    );
    list("hosts", host)
        .identified_by(&["address", "srv"])
        .ordered()
        .checked(hosts_differ)
}

/// The name that has to be resolved for a host when the file is read, in lower case; `None` if there is none.
pub(super) fn name_to_resolve(host: &Node) -> Option<String> {
    let Content::Map(_) = host.content else {
        return None;
    };
    if host.get("resolve")?.text()? != "once" {
        return None;
    }
    match parse_host_port(host.get("address")?.text()?) {
        Ok(HostPort::Name(name, _)) => Some(name),
        Ok(HostPort::Address(_)) | Err(_) => None,
    }
}

fn read_entry(keys: HostKeys, node: &Node, reader: &mut Reader<'_>) -> Option<HostEntry> {
    let HostKeys {
        address,
        srv,
        resolve,
        name,
        weight,
        backup,
        max_in_flight,
        labels,
    } = keys;
    let target = match (address, srv) {
        (Some(HostAddress { text, host_port }), None) => match (&host_port, resolve) {
            (HostPort::Name(name, port), Resolve::Auto) => HostTarget::Name {
                text,
                name: name.clone(),
                port: *port,
            },
            _ => match host_port.address(&reader.names) {
                Ok(address) => HostTarget::Address {
                    text,
                    address,
                    is_resolved: matches!(host_port, HostPort::Name(..)),
                    name: host_port.into_name(),
                },
                Err(problem) => {
                    reader.problem_of_key(node, "address", problem);
                    return None;
                }
            },
        },
        (None, Some(service)) => {
            if resolve == Resolve::Once {
                let problem = "SRV records are never resolved once; leave it out";
                reader.problem_of_key(node, "resolve", problem);
                return None;
            }
            if weight.is_some() {
                let problem = "SRV records have weights of their own; leave it out";
                reader.problem_of_key(node, "weight", problem);
                return None;
            }
            HostTarget::Srv(service)
        }
        (None, None) => {
            let problem = "`address` is missing; write it as in `address: 127.0.0.1:8081`";
            reader.problem(node, problem);
            return None;
        }
        (Some(_), Some(_)) => {
            let problem = "the host has an `address` already; leave one of both out";
            reader.problem_of_key(node, "srv", problem);
            return None;
        }
    };
    Some(HostEntry {
        target,
        settings: HostSettings {
            label: name,
            weight: weight.unwrap_or(1),
            backup,
            max_in_flight: max_in_flight.unwrap_or(reader.pool_max_in_flight),
            labels: labels.into_iter().collect(),
        },
    })
}

fn entry_keys(entry: &HostEntry) -> HostKeys {
    let settings = &entry.settings;
    let (address, srv, resolve) = match &entry.target {
        HostTarget::Address {
            text, is_resolved, ..
        } => {
            let resolve = match is_resolved {
                true => Resolve::Once,
                false => Resolve::Auto,
            };
            (Some(text), None, resolve)
        }
        HostTarget::Name { text, .. } => (Some(text), None, Resolve::Auto),
        HostTarget::Srv(name) => (None, Some(name.clone()), Resolve::Auto),
    };
    HostKeys {
        // Of the address only the text is shown.
        address: address.and_then(|text| HostAddress::parse(text).ok()),
        weight: srv.is_none().then_some(settings.weight),
        srv,
        resolve,
        name: settings.label.clone(),
        backup: settings.backup,
        max_in_flight: Some(settings.max_in_flight),
        labels: Vec::from_iter(settings.labels.clone()),
    }
}

fn hosts_differ(node: &Node, entries: &[(usize, HostEntry)], reader: &mut Reader<'_>) {
    let mut targets = HashMap::new();
    let mut labels = HashMap::new();
    for (index, entry) in entries {
        let Some(element) = node.elements().get(*index) else {
            continue;
        };
        let (target, key, shown) = match &entry.target {
            HostTarget::Address {
                text,
                name,
                address,
                ..
            } => ((name.as_str(), address.port()), "address", text),
            HostTarget::Name { text, name, port } => {
                ((name.as_str(), Some(*port)), "address", text)
            }
            HostTarget::Srv(name) => ((name.as_str(), None), "srv", name),
        };
        if let Some(first) = targets.insert(target, index) {
            let problem = format!("{} is hosts[{first}] of this pool already", quote(shown));
            reader.in_element(*index, |reader| {
                reader.problem_of_key(element, key, problem);
            });
        }
        if let Some(label) = &entry.settings.label
            && let Some(first) = labels.insert(label, index)
        {
            let problem = format!("{} is the name of hosts[{first}] already", quote(label));
            reader.in_element(*index, |reader| {
                reader.problem_of_key(element, "name", problem)
            });
        }
    }
}

fn entries_serve(node: &Node, entries: &[(usize, HostEntry)], reader: &mut Reader<'_>) {
    hosts_differ(node, entries, reader);
    let all_valid = !entries.is_empty() && entries.len() == node.elements().len().max(1);
    if all_valid && entries.iter().all(|(_, entry)| entry.settings.weight == 0) {
        let problem = "no host of the pool can take requests: every weight is 0";
        reader.problem(node, problem);
    }
}

/// A `host:port` or `unix:/path` of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostAddress {
    text: String,
    host_port: HostPort,
}

impl HostAddress {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(HostAddress {
            host_port: parse_host_port(text)?,
            text: text.to_owned(),
        })
    }
}

fn host_address() -> Scalar<HostAddress> {
    scalar("host:port or unix:/path", HostAddress::parse, |address| {
        json!(address.text)
    })
}

/// A name with SRV records.
fn service_name() -> Scalar<String> {
    let read = |text: &str| match is_name(text) {
        true => Ok(text.to_lowercase()),
        false => Err(format!(
            "{} is not a name with SRV records, such as `_http._tcp.app.internal`; their ports are in the records",
            quote(text)
        )),
    };
    scalar("a name", read, |name| json!(name))
}
