//! `hosts`: the servers of a pool.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::balancer::{HostId, MAX_WEIGHT};

use super::super::errors::Problems;
use super::super::model::Host;
use super::super::place::Place;
use super::super::surroundings::{Names, Surroundings, resolve_all};
use super::super::words::{choice, quote, whole};
use super::super::yaml::{self, Form, Said};
use super::pool_limits;

/// The longest name that DNS knows, in characters.
const LONGEST_NAME: usize = 253;

/// The longest `name` of a host, in characters: more does not fit into a column.
const LONGEST_LABEL: usize = 64;

/// The name that has to be resolved for a host, lower case; `None` if it has an address or makes no sense.
pub(super) fn name(said: &Form<yaml::Host>) -> Option<String> {
    let text = match said {
        Form::Short(text) => Some(text),
        Form::Full(host) => host.address.0.as_ref(),
    };
    match endpoint(text?) {
        Ok(Endpoint::Name(name, _)) => Some(name),
        Ok(Endpoint::Address(_)) | Err(_) => None,
    }
}

/// The hosts of the pool `pool`; `most` is the limit of those that have none of their own.
pub(super) fn hosts(
    said: Vec<Form<yaml::Host>>,
    pool: &str,
    most: Option<u64>,
    names: &Names,
    place: &Place,
    problems: &mut Problems,
) -> Vec<Host> {
    if said.is_empty() {
        problems.add(place, format!("the pool {} has no hosts", quote(pool)));
        return Vec::new();
    }
    let before = problems.count();
    let mut taken = HashMap::new();
    let mut labels = HashMap::new();
    let mut hosts = Vec::with_capacity(said.len());
    for (index, said) in said.into_iter().enumerate() {
        let place = place.index(index);
        let (at, said) = match said {
            Form::Short(address) => {
                let address = Said(Some(address));
                let host = yaml::Host {
                    address,
                    ..yaml::Host::default()
                };
                (place.clone(), host)
            }
            Form::Full(host) => (place.key("address"), host),
        };
        let yaml::Host {
            address,
            name,
            weight,
            backup,
            max_in_flight,
        } = said;
        let label = problems.optional(&place.key("name"), name.0, label);
        if let Some(label) = &label
            && let Some(first) = labels.insert(label.clone(), index)
        {
            problems.add(
                &place.key("name"),
                format!("{} is the name of hosts[{first}] already", quote(label)),
            );
        }
        let weight = problems.value(&place.key("weight"), weight.0, 1, |text| {
            whole(text, 0..=MAX_WEIGHT)
        });
        let backup = problems.value(&place.key("backup"), backup.0, false, |text| {
            choice(text, &[("true", true), ("false", false)])
        });
        let max_in_flight = match pool_limits::max_in_flight(max_in_flight, &place, problems) {
            None => most,
            Some(own) => (own > 0).then_some(own),
        };
        let Some(text) = address.0 else {
            problems.add(&at, "this host has no address");
            continue;
        };
        let Some(endpoint) = problems.take(&at, endpoint(&text)) else {
            continue;
        };
        if let Some(first) = taken.insert(endpoint.clone(), index) {
            problems.add(
                &at,
                format!("{} is hosts[{first}] of this pool already", quote(&text)),
            );
            continue;
        }
        let Some(address) = problems.take(&at, endpoint.address(names)) else {
            continue;
        };
        hosts.push(Host {
            name: endpoint.into_name(),
            label,
            id: HostId::from(text),
            address,
            weight,
            file_weight: Some(weight),
            backup,
            max_in_flight,
        });
    }
    if problems.count() == before && hosts.iter().all(|host| host.weight == 0) {
        problems.add(
            place,
            format!(
                "no host of the pool {} can take requests: every weight is 0",
                quote(pool)
            ),
        );
    }
    hosts
}

/// A host of weight 1 that is in no file, known by `text`; its name, if it has one, is resolved by `surroundings`.
pub(in crate::config) fn single(
    text: &str,
    surroundings: &dyn Surroundings,
) -> Result<Host, String> {
    let endpoint = endpoint(text)?;
    let names = match &endpoint {
        Endpoint::Address(_) => Names::new(),
        Endpoint::Name(name, _) => resolve_all(BTreeSet::from([name.clone()]), surroundings),
    };
    let address = endpoint.address(&names)?;
    Ok(alone(text, endpoint, address))
}

/// The same with a name that was resolved to `address` before.
pub(in crate::config) fn resolved(text: &str, address: SocketAddr) -> Result<Host, String> {
    Ok(alone(text, endpoint(text)?, address))
}

fn alone(text: &str, endpoint: Endpoint, address: SocketAddr) -> Host {
    Host {
        id: HostId::from(text),
        name: endpoint.into_name(),
        label: None,
        address,
        weight: 1,
        file_weight: None,
        backup: false,
        max_in_flight: None,
    }
}

/// What people call a host: one line of text.
fn label(text: &str) -> Result<String, String> {
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
        0..=LONGEST_LABEL => Ok(text.to_owned()),
        long => Err(format!(
            "{shown} has {long} characters; {LONGEST_LABEL} are the most"
        )),
    }
}

/// A `host:port` taken apart; two spellings of the same are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Endpoint {
    Address(SocketAddr),
    /// Lower case, with the port.
    Name(String, u16),
}

impl Endpoint {
    fn address(&self, names: &Names) -> Result<SocketAddr, String> {
        let (name, port) = match self {
            Endpoint::Address(address) => return Ok(*address),
            Endpoint::Name(name, port) => (name, *port),
        };
        match names.get(name) {
            Some(Ok(ip)) => Ok(SocketAddr::new(*ip, port)),
            Some(Err(reason)) => Err(format!("cannot resolve {}: {reason}", quote(name))),
            None => Err(format!("cannot resolve {}", quote(name))),
        }
    }

    fn into_name(self) -> String {
        match self {
            Endpoint::Address(address) => address.ip().to_string(),
            Endpoint::Name(name, _) => name,
        }
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let shown = quote(text);
    let port_zero = || Err(format!("{shown} has port 0, where no host can listen"));
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => port_zero(),
            _ => Ok(Endpoint::Address(address)),
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
            "{shown} has no port from 1 to 65535 behind its last colon"
        ));
    };
    if !is_name(name) {
        return Err(format!("{shown} is not a `host:port`"));
    }
    match port {
        0 => port_zero(),
        _ => Ok(Endpoint::Name(name.to_lowercase(), port)),
    }
}

/// Whether this can be a host name. An underscore is not proper in one, yet Docker and Kubernetes make such names.
pub(super) fn is_name(name: &str) -> bool {
    let proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    // All digits and dots is an address that has gone wrong, such as 10.0.0.256; a resolver would take its time with it.
    let is_number = name.chars().all(|c| c.is_ascii_digit() || c == '.');
    let name = name.strip_suffix('.').unwrap_or(name);
    let labels = || name.split('.');
    name.len() <= LONGEST_NAME
        && !is_number
        && labels().all(|label| !label.is_empty() && label.len() <= 63 && label.chars().all(proper))
}
