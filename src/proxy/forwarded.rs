//! Who the client is, and what hosts are told about it: the X-Forwarded-* fields.
//!
//! What a client says about itself counts for nothing unless it is a proxy from `trusted_proxies`. A trusted proxy's
//! X-Forwarded-For is continued; anybody else's is replaced.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use pingora::Result;
use pingora::http::RequestHeader;

use crate::address_text::AddressText;

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub(super) trusted: bool,
    /// The client: the peer, or what trusted proxies say about it.
    pub(super) client: IpAddr,
}

impl Origin {
    /// The client is the last address of X-Forwarded-For that is not a trusted proxy, read from the right.
    pub(super) fn new(peer: IpAddr, fields: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
        let peer = peer.to_canonical();
        let mut origin = Origin {
            peer,
            trusted: is_trusted(peer),
            client: peer,
        };
        if origin.trusted {
            let hops = fields.get_all(FOR).iter().rev();
            let hops = hops.flat_map(|field| field.as_bytes().rsplit(|&byte| byte == b','));
            for hop in hops {
                // Whoever stands left of something that is no address was not reported by anyone we trust.
                let Some(address) = address(hop) else { break };
                origin.client = address;
                if !is_trusted(address) {
                    break;
                }
            }
        }
        origin
    }

    /// Whether the client's request came over TLS: on this connection, or as a trusted proxy says.
    pub(super) fn is_https(&self, fields: &HeaderMap, tls: bool) -> bool {
        match self.trusted.then(|| fields.get(PROTO)).flatten() {
            Some(proto) => proto.as_bytes().eq_ignore_ascii_case(b"https"),
            None => tls,
        }
    }

    /// Sets the X-Forwarded-* fields of a request to a host.
    pub(super) fn describe(&self, request: &mut RequestHeader, tls: bool) -> Result<()> {
        let peer = AddressText::new(self.peer);
        let chain = match self.trusted.then(|| request.headers.get(FOR)).flatten() {
            None => HeaderValue::from_bytes(peer.as_bytes()),
            Some(_) => {
                let hops = request.headers.get_all(FOR).iter();
                let mut chain = Vec::new();
                for hop in hops.map(HeaderValue::as_bytes).chain([peer.as_bytes()]) {
                    if !chain.is_empty() {
                        chain.extend_from_slice(b", ");
                    }
                    chain.extend_from_slice(hop);
                }
                HeaderValue::from_maybe_shared(bytes::Bytes::from(chain))
            }
        };
        let chain = chain.map_err(|error| {
            pingora::Error::because(pingora::ErrorType::InternalError, FOR, error)
        })?;
        request.insert_header("X-Forwarded-For", chain)?;
        if !(self.trusted && request.headers.contains_key(PROTO)) {
            let proto = HeaderValue::from_static(if tls { "https" } else { "http" });
            request.insert_header("X-Forwarded-Proto", proto)?;
        }
        if !(self.trusted && request.headers.contains_key(HOST)) {
            match request.headers.get(http::header::HOST).cloned() {
                Some(host) => request.insert_header("X-Forwarded-Host", host)?,
                None => drop(request.remove_header(HOST)),
            }
        }
        Ok(())
    }
}

/// An entry of X-Forwarded-For: an address, which some proxies write with a port.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?.trim_ascii();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let address = bare.unwrap_or(hop).parse::<IpAddr>().ok();
    let with_port = || hop.parse::<std::net::SocketAddr>().ok();
    Some(address.or_else(|| Some(with_port()?.ip()))?.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn origin(peer: &str, hops: &[&str]) -> Origin {
        let fields: Vec<_> = hops.iter().map(|hop| ("X-Forwarded-For", *hop)).collect();
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        Origin::new(peer.parse().unwrap(), &request(&fields).headers, &trusted)
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_it_says() {
        let origin = origin("192.0.2.1", &["10.0.0.1", "203.0.113.9"]);
        assert_eq!(origin.client.to_string(), "192.0.2.1");
        assert!(!origin.trusted);
    }

    #[test]
    fn behind_trusted_proxies_the_rightmost_untrusted_address_is_the_client() {
        let cases: &[(&[&str], &str)] = &[
            (&["203.0.113.9"], "203.0.113.9"),
            (&["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            (&["1.1.1.1, 203.0.113.9, 10.0.0.7"], "203.0.113.9"),
            (
                &["1.1.1.1", "203.0.113.9, 10.0.0.7", "10.2.3.4"],
                "203.0.113.9",
            ),
            (&["10.0.0.8, 10.0.0.7"], "10.0.0.8"),
            (&["203.0.113.9, unknown, 10.0.0.7"], "10.0.0.7"),
            (&["203.0.113.9:4711"], "203.0.113.9"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:203.0.113.9"], "203.0.113.9"),
            (&[""], "10.0.0.1"),
            (&[], "10.0.0.1"),
        ];
        for (hops, client) in cases {
            assert_eq!(
                origin("10.0.0.1", hops).client.to_string(),
                *client,
                "{hops:?}"
            );
        }
        assert!(origin("::ffff:10.0.0.1", &[]).trusted);
    }

    fn described(peer: &str, fields: &[(&'static str, &str)]) -> [Vec<String>; 3] {
        let mut request = request(fields);
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let origin = Origin::new(peer.parse().unwrap(), &request.headers, &trusted);
        origin.describe(&mut request, true).unwrap();
        [FOR, PROTO, HOST].map(|name| {
            let values = request.headers.get_all(name).iter();
            values
                .map(|value| value.to_str().unwrap().to_owned())
                .collect()
        })
    }

    #[test]
    fn what_an_untrusted_client_says_is_replaced() {
        let spoofed = [
            ("Host", "real"),
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-For", "2.2.2.2"),
            ("X-Forwarded-Proto", "gopher"),
            ("X-Forwarded-Host", "evil"),
        ];
        assert_eq!(
            described("192.0.2.1", &spoofed),
            [["192.0.2.1"], ["https"], ["real"]]
        );
        let hostless = described("192.0.2.1", &[("X-Forwarded-Host", "evil")]);
        assert!(hostless[2].is_empty());
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_continued() {
        let fields = [
            ("Host", "inner"),
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-For", "2.2.2.2"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "outer"),
        ];
        assert_eq!(
            described("10.0.0.1", &fields),
            [["1.1.1.1, 2.2.2.2, 10.0.0.1"], ["http"], ["outer"]]
        );
        assert_eq!(
            described("10.0.0.1", &[("Host", "inner")]),
            [["10.0.0.1"], ["https"], ["inner"]]
        );
    }
}
