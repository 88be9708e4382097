//! `host:port` as people write it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::environment::Names;
use super::hints::quote;
use super::unix_address::{name_of, unix_address};
use ballast_balancer::HostAddress;

/// Characters of the longest name that DNS knows.
const MAX_NAME: usize = 253;

/// A `host:port` taken apart; two spellings of the same are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum HostPort {
    Address(HostAddress),
    /// Lower case, with the port.
    Name(String, u16),
}

impl HostPort {
    /// The address, where `names` has that of a name.
    pub(super) fn address(&self, names: &Names) -> Result<HostAddress, String> {
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

    /// The part before the port.
    pub(super) fn into_name(self) -> String {
        match self {
            HostPort::Address(address) => name_of(&address),
            HostPort::Name(name, _) => name,
        }
    }
}

/// Takes a `host:port` apart.
pub(super) fn parse_host_port(text: &str) -> Result<HostPort, String> {
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
