//! `discovery.dns`: how names are looked up in DNS.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::json;

use super::document::Node;
use super::hints::quote;
use super::scalars::format_time;
use super::schema::{Reader, Scalar, boolean, list, scalar, section, time, whole};

/// A lookup that fails takes time in proportion to both.
const MAX_SERVERS: usize = 8;
const MAX_ATTEMPTS: u32 = 10;
const DNS_PORT: u16 = 53;

section! {
    /// How names are looked up in DNS. /etc/hosts comes first; it and /etc/resolv.conf are read again when they change.
    pub struct Dns: Eq {
        /// IP addresses of servers, with a port unless it is 53. A server is asked after those before it have failed, timed
        /// out or refused. Empty: those of /etc/resolv.conf.
        servers: Vec<SocketAddr> { list("servers", server()).up_to(MAX_SERVERS), default "[]" },
        /// The longest wait for one response of a server, by UDP and again by TCP where UDP was too small for it.
        timeout: Duration { time(), default "2s" },
        /// How many times the servers are asked, all of them in turn, before the lookup has failed.
        attempts: u32 { whole(1..=MAX_ATTEMPTS), default "2" },
        /// The least time between two lookups of a name, however short the TTL of its records.
        min_ttl: Duration { time(), default "1s" },
        /// The most time between two lookups of a name, however long the TTL of its records.
        max_ttl: Duration { time(), default "60s" },
        /// Whether names without a dot at the end are also looked up in the search domains of /etc/resolv.conf, by its rules
        /// (`search`, `ndots`).
        search: bool { boolean(), default "true" },
    }
    check ttls_fit;
}

fn ttls_fit(dns: &mut Dns, map: &Node, reader: &mut Reader<'_>) {
    let Dns {
        min_ttl, max_ttl, ..
    } = *dns;
    if max_ttl < min_ttl {
        let key = match map.get("max_ttl") {
            Some(_) => "max_ttl",
            None => "min_ttl",
        };
        let (min, max) = (format_time(min_ttl), format_time(max_ttl));
        let message = format!("the most time of {max} is less than the least time of {min}");
        reader.problem_of_key(map, key, message);
    }
}

/// An IP address, with a port unless it is that of DNS.
fn server() -> Scalar<SocketAddr> {
    scalar(
        "an IP address with or without a port",
        parse_server,
        |address: &SocketAddr| match address.port() {
            DNS_PORT => json!(address.ip()),
            _ => json!(address),
        },
    )
}

fn parse_server(text: &str) -> Result<SocketAddr, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = match bare.unwrap_or(text).parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, DNS_PORT)),
        Err(_) => text.parse().ok(),
    };
    match address {
        Some(address) if address.port() == 0 => Err(format!(
            "{} has port 0; leave the port out for {DNS_PORT}",
            quote(text)
        )),
        Some(address) => Ok(address),
        None => Err(format!(
            "{} is not an IP address with or without a port, such as `10.0.0.2` or `127.0.0.1:8600`",
            quote(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_addresses_with_or_without_a_port() {
        let server = |text: &str| parse_server(text).map(|address| address.to_string());
        assert_eq!(server("10.0.0.2"), Ok("10.0.0.2:53".to_owned()));
        assert_eq!(server("127.0.0.1:8600"), Ok("127.0.0.1:8600".to_owned()));
        assert_eq!(server("fd00::2"), Ok("[fd00::2]:53".to_owned()));
        assert_eq!(server("[fd00::2]"), Ok("[fd00::2]:53".to_owned()));
        assert_eq!(server("[fd00::2]:8600"), Ok("[fd00::2]:8600".to_owned()));
        for wrong in ["", "dns.internal", "10.0.0.2:0", "10.0.0.2:70000", "[::1"] {
            assert!(server(wrong).is_err(), "{wrong}");
        }
    }
}
