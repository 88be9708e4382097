//! `hosts`: the servers of a pool.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde_json::json;

use super::document::{Content, Node};
use super::environment::{Names, System, resolve_all};
use super::hints::quote;
use super::schema::{
    Kind, List, Reader, Scalar, boolean, converted, list, map_of, or_zero, scalar, section, whole,
};
use super::unix_address::{name_of, unix_address};
use crate::balancer::{self, HostId, MAX_WEIGHT};

/// Characters of the longest name that DNS knows.
const MAX_NAME: usize = 253;
/// Characters of a label that fit into a column.
const MAX_LABEL: usize = 64;

section! {
    /// A server that requests are sent to.
    pub(super) struct HostKeys: Eq {
        /// host:port, or `unix:/path` for a Unix socket. Names are resolved once, when the file is read.
        address: HostAddress { host_address(), required "127.0.0.1:8081" },
        /// What `ballast status` and the dashboard call it; without it its host:port.
        name: Option<String> { label(), optional "app-2" },
        /// Its share of requests, 0 to 10000. 0 drains the host: it is used only while all others are down.
        weight: u32 { whole(0..=MAX_WEIGHT), default "1" },
        /// Whether it is used only while no other host is usable.
        backup: bool { boolean(), default "false" },
        /// Its requests at the same time; without it the pool's `limits.max_in_flight`. 0: no limit.
        max_in_flight: Option<Option<u64>> { or_zero(whole(0..=u64::MAX)), optional "0" },
    }
}

/// A server that requests are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The `host:port` or `unix:/path` of the file, as written.
    pub id: HostId,
    /// The name or address before the port: names in lower case, IPv6 addresses without brackets. Of a Unix socket the whole
    /// `unix:/path`.
    pub name: String,
    /// What people call it; `None`: its `id`.
    pub label: Option<String>,
    /// The address of `id` when the file was loaded; the first one if there are several.
    pub address: balancer::HostAddress,
    /// 0 to 10,000; 0: the host is drained.
    pub weight: u32,
    /// The weight in the file, where an operator may have set another; `None` for a host that an operator has added.
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

    /// What a request of its own to this host names as its authority: `id`, or `localhost` for a Unix socket.
    pub fn authority(&self) -> &str {
        match self.address {
            balancer::HostAddress::Inet(_) => self.id.as_str(),
            balancer::HostAddress::Unix(_) => "localhost",
        }
    }

    /// Whether both are the same server, however it is spelled.
    pub fn is_same(&self, other: &Host) -> bool {
        (&self.name, self.address.port()) == (&other.name, other.address.port())
    }

    fn new(text: &str, name: String, address: balancer::HostAddress) -> Host {
        Host {
            id: HostId::from(text),
            name,
            label: None,
            address,
            weight: 1,
            file_weight: None,
            backup: false,
            max_in_flight: None,
        }
    }
}

/// The value of `hosts`. Hosts without a limit of their own have that of the pool, which `Pool` adds.
pub(super) fn hosts() -> List<impl Kind<Value = Host>> {
    let host = converted(
        map_of::<HostKeys>().short_for("address"),
        read_host,
        host_keys,
    );
    list("hosts", host)
        .not_empty("the pool has no hosts")
        .identified_by("address")
        .ordered()
        .checked(hosts_differ)
}

/// The name that has to be resolved for a host, in lower case; `None` if it has an address or is not valid.
pub(super) fn name_to_resolve(host: &Node) -> Option<String> {
    let address = match host.content {
        Content::Map(_) => host.get("address")?,
        _ => host,
    };
    match parse_host_port(address.text()?) {
        Ok(HostPort::Name(name, _)) => Some(name),
        Ok(HostPort::Address(_)) | Err(_) => None,
    }
}

fn read_host(keys: HostKeys, _: &Node, reader: &mut Reader<'_>) -> Option<Host> {
    let HostKeys {
        address:
            HostAddress {
                text,
                name: own_name,
                address,
            },
        name,
        weight,
        backup,
        max_in_flight,
    } = keys;
    Some(Host {
        label: name,
        weight,
        file_weight: Some(weight),
        backup,
        max_in_flight: max_in_flight.unwrap_or(reader.pool_max_in_flight),
        ..Host::new(&text, own_name, address)
    })
}

fn host_keys(host: &Host) -> HostKeys {
    HostKeys {
        address: HostAddress {
            text: host.id.as_str().to_owned(),
            name: host.name.clone(),
            address: host.address.clone(),
        },
        name: host.label.clone(),
        weight: host.weight,
        backup: host.backup,
        max_in_flight: Some(host.max_in_flight),
    }
}

fn hosts_differ(node: &Node, hosts: &[(usize, Host)], reader: &mut Reader<'_>) {
    let mut addresses = HashMap::new();
    let mut labels = HashMap::new();
    for (index, host) in hosts {
        let Some(element) = node.elements().get(*index) else {
            continue;
        };
        let server = (host.name.as_str(), host.address.port());
        if let Some(first) = addresses.insert(server, index) {
            let id = quote(host.id.as_str());
            let problem = format!("{id} is hosts[{first}] of this pool already");
            reader.in_element(*index, |reader| {
                reader.problem_of_key(element, "address", problem);
            });
        }
        if let Some(label) = &host.label
            && let Some(first) = labels.insert(label, index)
        {
            let problem = format!("{} is the name of hosts[{first}] already", quote(label));
            reader.in_element(*index, |reader| {
                reader.problem_of_key(element, "name", problem)
            });
        }
    }
    let all_valid = hosts.len() == node.elements().len().max(1);
    if all_valid && hosts.iter().all(|(_, host)| host.weight == 0) {
        let problem = "no host of the pool can take requests: every weight is 0";
        reader.problem(node, problem);
    }
}

/// A `host:port` and the address that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostAddress {
    text: String,
    /// The name or address before the port.
    name: String,
    address: balancer::HostAddress,
}

fn host_address() -> Scalar<HostAddress> {
    let dump = |address: &HostAddress| json!(address.text);
    scalar("host:port or unix:/path", |_| Err(String::new()), dump).reading(|text, reader| {
        let host_port = parse_host_port(text)?;
        Ok(HostAddress {
            text: text.to_owned(),
            address: host_port.address(&reader.names)?,
            name: host_port.into_name(),
        })
    })
}

/// A line of text.
fn label() -> Scalar<String> {
    let read = |text: &str| {
        let shown = quote(text);
        if text.trim().is_empty() {
            return Err("a name has at least one character".to_owned());
        }
        if text.chars().any(char::is_control) || text.trim() != text {
            return Err(format!(
                "{shown} begins or ends with a space, or has a control character"
            ));
        }
        match text.chars().count() {
            0..=MAX_LABEL => Ok(text.to_owned()),
            long => Err(format!(
                "{shown} has {long} characters; the limit is {MAX_LABEL}"
            )),
        }
    };
    scalar("a name", read, |label| json!(label))
}

/// A `host:port` taken apart; two spellings of the same are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum HostPort {
    Address(balancer::HostAddress),
    /// Lower case, with the port.
    Name(String, u16),
}

impl HostPort {
    fn address(&self, names: &Names) -> Result<balancer::HostAddress, String> {
        let (name, port) = match self {
            HostPort::Address(address) => return Ok(address.clone()),
            HostPort::Name(name, port) => (name, *port),
        };
        match names.get(name) {
            Some(Ok(ip)) => Ok((*ip, port).into()),
            Some(Err(reason)) => Err(format!("cannot resolve {}: {reason}", quote(name))),
            None => Err(format!("cannot resolve {}", quote(name))),
        }
    }

    fn into_name(self) -> String {
        match self {
            HostPort::Address(address) => name_of(&address),
            HostPort::Name(name, _) => name,
        }
    }
}

fn parse_host_port(text: &str) -> Result<HostPort, String> {
    let shown = quote(text);
    let port_zero = || Err(format!("{shown} has port 0, where no host can listen"));
    if let Some(address) = unix_address(text) {
        return address.map(HostPort::Address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => port_zero(),
            _ => Ok(HostPort::Address(address.into())),
        };
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.trim_end_matches('/');
        return Err(format!(
            "{shown} is a URL, but a host is `host:port`; leave out `{}://`{}",
            scheme.escape_debug(),
            if rest.contains(':') {
                ""
            } else {
                " and give the port"
            }
        ));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!(
            "{shown} has no port; an IPv6 address with one is written as in `[::1]:80`"
        ));
    }
    let Some((name, port)) = text.rsplit_once(':') else {
        let whole = text.parse::<IpAddr>().is_ok() || is_name(text);
        return Err(match whole {
            true => format!("{shown} has no port; did you mean `{text}:80`?"),
            false => format!("{shown} is not a `host:port`"),
        });
    };
    let Ok(port) = port.parse::<u16>() else {
        return Err(format!(
            "{shown} has no port from 1 to 65535 after its last colon"
        ));
    };
    if !is_name(name) {
        return Err(format!("{shown} is not a `host:port`"));
    }
    match port {
        0 => port_zero(),
        _ => Ok(HostPort::Name(name.to_lowercase(), port)),
    }
}

/// Whether this can be a host name. An underscore is not proper in one, yet Docker and Kubernetes make such names.
pub(super) fn is_name(name: &str) -> bool {
    let proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    // All digits and dots is an address that has gone wrong, such as 10.0.0.256; a resolver would take its time with it.
    let is_number = name.chars().all(|c| c.is_ascii_digit() || c == '.');
    let name = name.strip_suffix('.').unwrap_or(name);
    let labels = || name.split('.');
    name.len() <= MAX_NAME
        && !is_number
        && labels().all(|label| !label.is_empty() && label.len() <= 63 && label.chars().all(proper))
}
