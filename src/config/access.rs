//! Who may come in: networks that are let in and networks that are not.

use std::net::IpAddr;

use ipnet::IpNet;

/// `allow` and `deny` of a listener or a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Nobody else comes in, unless this is empty.
    pub allow: Vec<IpNet>,
    /// These do not come in, even where `allow` has them.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Whether `address` may come in. An IPv4 address within IPv6 counts as what it is.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let has = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
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
    fn deny_wins_and_an_empty_allow_is_everybody() {
        let permits = |allow: &[&str], deny: &[&str], address: &str| {
            let (allow, deny) = (networks(allow), networks(deny));
            Access { allow, deny }.permits(address.parse().expect("an address"))
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
}
