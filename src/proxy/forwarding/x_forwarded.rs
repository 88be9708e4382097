//! The client's address, and the X-Forwarded-* fields that pass it on to hosts.
//!
//! These fields are only believed if the peer is in `trusted_proxies`: fields from other clients are dropped as
//! [spoofable](crate::spoofable_headers). Fields of a trusted proxy are continued.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use http::HeaderName;
use pingora::Result;

use super::header_editor::HeaderEditor;
use crate::address_text::AddressText;
use crate::client_certificate::ClientVerification;
use crate::config::{ListenerAddress, TrustedProxy};
use crate::message::FieldsView;
use crate::proxy_protocol::ProxiedConnection;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// The client's connection, as far as forwarded fields describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionInfo<'a> {
    /// Whether the connection is encrypted.
    pub(crate) tls: bool,
    /// The local address of the connection, or that of its listener.
    pub(crate) local: Option<LocalAddress<'a>>,
    /// What the listener knows of the client's certificate. `None`: it asks for none.
    pub(crate) verification: Option<&'a Arc<ClientVerification>>,
    /// The connection as hosts of pools with `proxy_protocol` learn of it. `None`: there is no such pool.
    pub(crate) proxied: Option<&'a Arc<ProxiedConnection>>,
}

/// The address at this end of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LocalAddress<'a> {
    /// An IP address and a port.
    Inet(SocketAddr),
    /// The path of a Unix socket.
    Unix(&'a Path),
}

impl LocalAddress<'_> {
    fn port(self) -> Option<u16> {
        match self {
            LocalAddress::Inet(address) => Some(address.port()),
            LocalAddress::Unix(_) => None,
        }
    }
}

impl<'a> From<&'a ListenerAddress> for LocalAddress<'a> {
    fn from(listener: &'a ListenerAddress) -> Self {
        match listener {
            ListenerAddress::Inet(address) => LocalAddress::Inet(*address),
            ListenerAddress::Unix(path) => LocalAddress::Unix(path),
        }
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientOrigin {
    /// The other end of the connection. `None`: it has connected to a Unix socket.
    pub(crate) peer: Option<IpAddr>,
    /// Whether the peer is a trusted proxy.
    pub(crate) trusted: bool,
    /// The client's address: the peer, or the address that trusted proxies report.
    pub(crate) client: Option<IpAddr>,
}

impl ClientOrigin {
    /// The client is the last address in X-Forwarded-For, read from the right, that is not a trusted proxy.
    pub(crate) fn new(
        peer: Option<IpAddr>,
        fields: FieldsView<'_>,
        trusted: &[TrustedProxy],
    ) -> Self {
        let is_trusted = |peer| trusted.iter().any(|proxy| proxy.includes(peer));
        let peer = peer.map(|peer| peer.to_canonical());
        let mut origin = ClientOrigin {
            peer,
            trusted: is_trusted(peer),
            client: peer,
        };
        if origin.trusted {
            let hops = fields.get_all(&FOR).rev();
            let hops = hops.flat_map(|field| field.rsplit(|&byte| byte == b','));
            for hop in hops {
                // An entry that is not an address ends the chain: no trusted proxy vouches for the entries to its left.
                let Some(address) = address(hop) else { break };
                origin.client = Some(address);
                if !is_trusted(origin.client) {
                    break;
                }
            }
        }
        origin
    }

    /// Whether the client used TLS: on this connection, or according to a trusted proxy.
    pub(crate) fn is_https(&self, fields: FieldsView<'_>, tls: bool) -> bool {
        let reported = self.trusted.then(|| scheme(fields)).flatten();
        reported.map_or(tls, is_secure)
    }

    /// Sets the X-Forwarded-* fields and X-Real-IP on a request to a host. `received` are the client's fields, and
    /// `host` is the authority that the client asked for.
    pub(crate) fn set_forwarded_fields(
        &self,
        received: FieldsView<'_>,
        host: Option<&[u8]>,
        connection: ConnectionInfo<'_>,
        request: &mut impl HeaderEditor,
    ) -> Result<()> {
        let peer = self.peer.map(AddressText::new);
        let peer = peer.as_ref().map(AddressText::as_bytes);
        let has = |name: &HeaderName| self.trusted && received.contains(name);
        if has(&FOR) {
            let mut chain = Vec::new();
            for hop in received.get_all(&FOR).chain(peer) {
                if !chain.is_empty() {
                    chain.extend_from_slice(b", ");
                }
                chain.extend_from_slice(hop);
            }
            request.set("X-Forwarded-For", &chain)?;
        } else {
            match peer {
                Some(peer) => request.set("X-Forwarded-For", peer)?,
                None => request.remove(&FOR),
            }
        }
        match (peer, self.client) {
            (Some(peer), _) if self.client == self.peer => request.set("X-Real-IP", peer)?,
            (_, Some(client)) => request.set("X-Real-IP", AddressText::new(client).as_bytes())?,
            (_, None) => request.remove(&REAL_IP),
        }
        if !has(&PORT) {
            // If a trusted proxy reports the scheme but no port, the client used the default port of that scheme.
            let reported = self.trusted.then(|| scheme(received)).flatten();
            let default = |scheme| if is_secure(scheme) { 443 } else { 80 };
            match reported
                .map(default)
                .or(connection.local.and_then(LocalAddress::port))
            {
                Some(port) => {
                    let mut digits = itoa::Buffer::new();
                    request.set("X-Forwarded-Port", digits.format(port).as_bytes())?;
                }
                None => request.remove(&PORT),
            }
        }
        if !has(&PROTO) {
            let proto: &[u8] = if connection.tls { b"https" } else { b"http" };
            request.set("X-Forwarded-Proto", proto)?;
        }
        if !has(&HOST) {
            match host {
                Some(host) => request.set("X-Forwarded-Host", host)?,
                None => request.remove(&HOST),
            }
        }
        Ok(())
    }
}

/// The scheme that the client used according to X-Forwarded-Proto: the first one, if every hop has added its own.
fn scheme(fields: FieldsView<'_>) -> Option<&[u8]> {
    let values = fields.get_all(&PROTO);
    let mut hops = values.flat_map(|field| field.split(|&byte| byte == b','));
    hops.find_map(|hop| Some(hop.trim_ascii()).filter(|hop| !hop.is_empty()))
}

/// Whether a scheme uses TLS. Some proxies report `wss` for a WebSocket.
fn is_secure(scheme: &[u8]) -> bool {
    scheme.eq_ignore_ascii_case(b"https") || scheme.eq_ignore_ascii_case(b"wss")
}

/// Parses an entry of X-Forwarded-For: an address, with a port in some proxies.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?.trim_ascii();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    let address = bare.unwrap_or(hop).parse::<IpAddr>().ok();
    let with_port = || hop.parse::<SocketAddr>().ok();
    Some(address.or_else(|| Some(with_port()?.ip()))?.to_canonical())
}

#[cfg(test)]
mod tests {
    use pingora::http::RequestHeader;

    use super::*;

    fn request(fields: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn origin(peer: &str, hops: &[&str]) -> ClientOrigin {
        let fields: Vec<_> = hops.iter().map(|hop| ("X-Forwarded-For", *hop)).collect();
        let trusted =
            ["10.0.0.0/8", "::1/128"].map(|net| TrustedProxy::Network(net.parse().unwrap()));
        let request = request(&fields);
        ClientOrigin::new(peer.parse().ok(), (&request.headers).into(), &trusted)
    }

    #[test]
    fn an_untrusted_peer_is_the_client() {
        let origin = origin("192.0.2.1", &["10.0.0.1", "203.0.113.9"]);
        assert_eq!(origin.client, "192.0.2.1".parse().ok());
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
                origin("10.0.0.1", hops).client,
                client.parse().ok(),
                "{hops:?}"
            );
        }
        assert!(origin("::ffff:10.0.0.1", &[]).trusted);
    }

    fn forwarded_fields(peer: &str, fields: &[(&'static str, &str)]) -> [Vec<String>; 5] {
        let mut request = request(fields);
        let trusted = ["10.0.0.0/8"].map(|net| TrustedProxy::Network(net.parse().unwrap()));
        let received = request.clone();
        let fields = FieldsView::from(&received.headers);
        let origin = ClientOrigin::new(peer.parse().ok(), fields, &trusted);
        let connection = ConnectionInfo {
            tls: true,
            local: Some(LocalAddress::Inet(([127, 0, 0, 1], 8443).into())),
            verification: None,
            proxied: None,
        };
        let host = fields.get(&http::header::HOST);
        let outcome = origin.set_forwarded_fields(fields, host, connection, &mut request);
        outcome.unwrap();
        [FOR, PROTO, HOST, PORT, HeaderName::from_static("x-real-ip")].map(|name| {
            let values = request.headers.get_all(name).iter();
            values
                .map(|value| value.to_str().unwrap().to_owned())
                .collect()
        })
    }

    #[test]
    fn fields_of_an_untrusted_client_are_replaced() {
        let spoofed = [
            ("Host", "real"),
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-For", "2.2.2.2"),
            ("X-Forwarded-Proto", "gopher"),
            ("X-Forwarded-Host", "evil"),
            ("X-Forwarded-Port", "1"),
            ("X-Real-IP", "3.3.3.3"),
        ];
        assert_eq!(
            forwarded_fields("192.0.2.1", &spoofed),
            [["192.0.2.1"], ["https"], ["real"], ["8443"], ["192.0.2.1"]]
        );
        let hostless = forwarded_fields("192.0.2.1", &[("X-Forwarded-Host", "evil")]);
        assert!(hostless[2].is_empty());
    }

    #[test]
    fn a_client_of_a_unix_socket_has_no_address_unless_it_is_a_trusted_proxy() {
        let fields = [
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Real-IP", "203.0.113.9"),
        ];
        let request = request(&fields);
        let received = FieldsView::from(&request.headers);
        let connection = ConnectionInfo {
            tls: false,
            local: Some(LocalAddress::Unix(Path::new("/run/ballast.sock"))),
            verification: None,
            proxied: None,
        };
        for (trusted, client) in [
            (&[][..], None),
            (&[TrustedProxy::Unix][..], Some("203.0.113.9")),
        ] {
            let origin = ClientOrigin::new(None, received, trusted);
            assert_eq!(origin.client, client.and_then(|client| client.parse().ok()));
            let mut forwarded = request.clone();
            let outcome = origin.set_forwarded_fields(received, None, connection, &mut forwarded);
            outcome.expect("values of a request can stand in one");
            for name in [FOR, REAL_IP] {
                let value = forwarded.headers.get(name).map(|value| value.as_bytes());
                assert_eq!(value, client.map(str::as_bytes));
            }
            assert_eq!(forwarded.headers[PROTO], "http");
            assert!(!forwarded.headers.contains_key(PORT));
        }
    }

    #[test]
    fn fields_of_a_trusted_proxy_are_continued() {
        let fields = [
            ("Host", "inner"),
            ("X-Forwarded-For", "1.1.1.1"),
            ("X-Forwarded-For", "2.2.2.2"),
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Host", "outer"),
        ];
        assert_eq!(
            forwarded_fields("10.0.0.1", &fields),
            [
                ["1.1.1.1, 2.2.2.2, 10.0.0.1"],
                ["http"],
                ["outer"],
                ["80"],
                ["2.2.2.2"]
            ]
        );
        assert_eq!(
            forwarded_fields("10.0.0.1", &[("Host", "inner")]),
            [["10.0.0.1"], ["https"], ["inner"], ["8443"], ["10.0.0.1"]]
        );
    }
    #[test]
    fn the_first_hop_says_whether_the_client_used_tls() {
        for (schemes, trusted, https) in [
            (&["https"][..], true, true),
            (&["https, http"], true, true),
            (&["https", "http"], true, true),
            (&["HTTPS ,http"], true, true),
            (&["wss"], true, true),
            (&["http, https"], true, false),
            (&["ws"], true, false),
            (&[""], true, false),
            (&["", "https"], true, true),
            (&[], true, false),
            (&["https"], false, false),
        ] {
            let fields =
                Vec::from_iter(schemes.iter().map(|scheme| ("X-Forwarded-Proto", *scheme)));
            let request = request(&fields);
            let peer = if trusted { "10.0.0.1" } else { "192.0.2.1" };
            let networks = ["10.0.0.0/8"].map(|net| TrustedProxy::Network(net.parse().unwrap()));
            let fields = FieldsView::from(&request.headers);
            let origin = ClientOrigin::new(peer.parse().ok(), fields, &networks);
            assert_eq!(origin.is_https(fields, false), https, "{schemes:?}");
        }
    }
}
