//! `allow` and `deny`: whose requests are served.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::json;

use super::hints::quote;
use super::schema::{List, Scalar, list, scalar, section};

section! {
    /// Whose requests are served.
    pub struct Access: Eq, Default {
        /// Clients that are let in, as networks or addresses. If there is any, no others are.
        allow: Vec<IpNet> { networks(), default "[]" },
        /// Clients that are refused, even if `allow` has them.
        deny: Vec<IpNet> { networks(), default "[]" },
    }
}

/// A list of networks, an address being a network of one.
pub(super) fn networks() -> List<Scalar<IpNet>> {
    let network = scalar("a network or an address", network, |network: &IpNet| {
        json!(network.to_string())
    });
    list("networks", network)
}

pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| {
        format!(
            "{} is neither a network such as `10.0.0.0/8` nor an address",
            quote(text)
        )
    })?;
    if network.trunc() == network {
        Ok(network)
    } else {
        Err(format!(
            "{} has bits set after its prefix; did you mean `{}`?",
            quote(text),
            network.trunc()
        ))
    }
}

impl Access {
    /// Whether `client` may come in. An IPv4 address within IPv6 counts as what it is. `None`: the client of a Unix socket,
    /// which is in no network.
    pub fn permits(&self, client: Option<IpAddr>) -> bool {
        let client = client.map(|client| client.to_canonical());
        let has = |networks: &[IpNet]| {
            let is_in = |client: IpAddr| networks.iter().any(|network| network.contains(&client));
            client.is_some_and(is_in)
        };
        !has(&self.deny) && (self.allow.is_empty() || has(&self.allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        let networks = texts.iter().map(|text| text.parse());
        networks.collect::<Result<_, _>>().expect("networks")
    }

    #[test]
    fn deny_wins_and_an_empty_allow_list_permits_all() {
        let permits = |allow: &[&str], deny: &[&str], address: &str| {
            let (allow, deny) = (networks(allow), networks(deny));
            Access { allow, deny }.permits(Some(address.parse().expect("an address")))
        };
        assert!(permits(&[], &[], "192.0.2.1"));
        assert!(!permits(&[], &["192.0.2.0/24"], "192.0.2.1"));
        assert!(permits(&[], &["192.0.2.0/24"], "192.0.3.1"));
        assert!(permits(&["10.0.0.0/8"], &[], "10.1.2.3"));
        assert!(!permits(&["10.0.0.0/8"], &[], "11.1.2.3"));
        assert!(!permits(&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3"));
        assert!(!permits(&["10.0.0.0/8"], &[], "2001:db8::1"));
        assert!(permits(&["2001:db8::/32"], &[], "2001:db8::1"));
        assert!(permits(&["10.0.0.0/8"], &[], "::ffff:10.1.2.3"));
    }

    #[test]
    fn the_client_of_a_unix_socket_is_in_no_network() {
        let permits = |allow: &[&str], deny: &[&str]| {
            let (allow, deny) = (networks(allow), networks(deny));
            Access { allow, deny }.permits(None)
        };
        assert!(permits(&[], &[]) && permits(&[], &["0.0.0.0/0", "::/0"]));
        assert!(!permits(&["0.0.0.0/0", "::/0"], &[]));
    }
}
