//! `listeners`: the addresses that clients connect to.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde_json::json;

use super::access::{Access, networks};
use super::certificates::{self, Certificate, CertificateSource};
use super::client_certificates::ClientCertificates;
use super::document::Node;
use super::file_mode::{FileMode, file_mode};
use super::hints::quote;
use super::schema::{
    Kind, List, Reader, Scalar, boolean, boolean_hint, choice, list, map_of, or_none, scalar,
    section,
};
use super::tls_policy::{self, SessionTickets, TlsProfile, TlsVersion};
use super::unix_address::unix_address;

/// The address of a listener: an IP address with a port, or the path of a Unix socket.
pub use ballast_balancer::HostAddress as ListenerAddress;

/// Each listener is a socket that every serving thread polls.
const MAX_LISTENERS: usize = 32;

section! {
    /// An address that clients connect to.
    pub struct Listener: Eq {
        /// An IP address with a port; 0.0.0.0 or `[::]` stands for all addresses of the machine. `unix:/path`: a Unix socket,
        /// whose file is created, passed on in a handover, and removed at the end. One that a killed process has left is
        /// replaced. Its clients have no address: they are in no network, so that `allow` refuses them, and what needs an
        /// address has its fallback.
        address: ListenerAddress { listener_address(), required "0.0.0.0:8080", new_process },
        /// The permissions of a Unix socket, 0660 unless they are said here. Who may write may connect.
        mode: Option<FileMode> { file_mode(), optional "\"0666\"", new_process },
        /// TLS to clients.
        tls: Option<ListenerTls> { map_of::<ListenerTls>().with_hint(tls_hint), optional "", new_process },
        /// Who may connect: the client, or the address that a PROXY header announces.
        access: Access { map_of::<Access>(), flat },
        /// Load balancers in front that announce the client with the PROXY protocol, version 1 or 2. The announced address
        /// then counts for everything. Only these networks may connect, and only with such a header. To a Unix socket may connect who
        /// has the permission.
        proxy_protocol: Option<ProxyProtocol> { map_of::<ProxyProtocol>(), optional "" },
        /// HTTP/2 beside HTTP/1.1 without TLS: `cleartext` takes it from clients that begin with its preface (prior
        /// knowledge), as gRPC clients without TLS do. `Upgrade: h2c` is ignored. With TLS see `tls.http2`.
        http2: CleartextHttp2 {
            choice(&[("off", CleartextHttp2::Off), ("cleartext", CleartextHttp2::Cleartext)]),
            default "off"
        },
        /// Whether plain requests are redirected to https://, with the same host, path and query, on port 443 (308). Those
        /// below /.well-known/acme-challenge/ are not, nor those that came to a trusted proxy over https.
        redirect_https: bool { boolean(), default "false" },
    }
    check keys_fit;
}

/// HTTP/2 without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleartextHttp2 {
    /// Not at all.
    Off,
    /// With prior knowledge.
    Cleartext,
}

fn keys_fit(listener: &mut Listener, map: &Node, reader: &mut Reader<'_>) {
    redirects_plain_requests(listener, map, reader);
    fits_address(listener, map, reader);
    if listener.http2 == CleartextHttp2::Cleartext && listener.tls.is_some() {
        let message =
            "this listener has TLS, which chooses the protocol; it is `http2` within `tls` there";
        reader.problem_of_key(map, "http2", message);
    }
}

fn redirects_plain_requests(listener: &Listener, map: &Node, reader: &mut Reader<'_>) {
    if listener.redirect_https && listener.tls.is_some() {
        let message =
            "requests over TLS are https already; this key is for the listener of plain HTTP";
        reader.problem_of_key(map, "redirect_https", message);
    }
}

/// Reports keys for Unix sockets at others, and the other way round.
fn fits_address(listener: &Listener, map: &Node, reader: &mut Reader<'_>) {
    let is_unix = listener.address.as_unix().is_some();
    if !is_unix && listener.mode.is_some() {
        let message = "this is for Unix sockets, and this listener has an IP address";
        reader.problem_of_key(map, "mode", message);
    }
    let Some(ProxyProtocol { trusted }) = &listener.proxy_protocol else {
        return;
    };
    let message = match (is_unix, trusted) {
        (true, Some(_)) => {
            "a Unix socket has no networks; `mode` of the listener says who may connect, so leave out `trusted`"
        }
        (false, None) => "`trusted` is missing; write it as in `trusted: [10.0.0.0/8]`",
        _ => return,
    };
    reader.problem_of_key(map, "proxy_protocol", message);
}

section! {
    /// Who announces clients with the PROXY protocol.
    pub struct ProxyProtocol: Eq {
        /// The networks of these load balancers. Required, but for a Unix socket, where it has no place.
        trusted: Option<Vec<IpNet>> {
            networks().not_empty("no network is trusted, so no load balancer could connect"),
            optional "[10.0.0.0/8]"
        },
    }
}

section! {
    /// TLS to clients.
    pub struct ListenerTls: Eq {
        /// The certificates: files, or a directory of them, as in `{ directory: /etc/ballast/certs }`; a list may have both.
        /// The client's server name (SNI) chooses one by the names in them, an exact name before a wildcard; the first is for
        /// all other names. Changed files are taken in while the process runs, see server.certificate_check. There may be
        /// none if `acme` orders certificates.
        certificates: Vec<CertificateSource> { certificates::sources(), default "[]" },
        /// Whether a handshake for a name that no certificate has, or without a name, is refused (unrecognized_name), instead
        /// of getting the first certificate.
        sni_strict: bool { boolean(), default "false" },
        /// Mozilla's recommendation that is followed: `intermediate` is TLS 1.2 and 1.3, `modern` TLS 1.3 alone. Either has
        /// nothing but authenticated ciphers (AES-GCM, ChaCha20-Poly1305) and key exchanges with forward secrecy.
        profile: TlsProfile { tls_policy::profile(), default "intermediate", new_process },
        /// The lowest version of TLS, in place of the profile's.
        min_version: Option<TlsVersion> { tls_policy::version(), optional "\"1.3\"", new_process },
        /// Session tickets, with which clients that come back save a part of the handshake. A ticket is good for 6 hours, and
        /// the keys change as often. `none`: sessions are resumed from a small memory of this process.
        session_tickets: Option<SessionTickets> { or_none(map_of::<SessionTickets>(), boolean_hint), default "{}" },
        /// The certificates that clients show (mTLS); without this section they are not asked for one. Hosts get the outcome
        /// in X-SSL-Client-Verify, SUCCESS or NONE, and what the certificate says in X-SSL-Client-Subject-DN and
        /// X-SSL-Client-Issuer-DN (RFC 2253), X-SSL-Client-Serial and X-SSL-Client-Fingerprint (SHA-256), both in hexadecimal,
        /// and X-SSL-Client-Not-After (RFC 3339). Such a listener resumes no sessions, so that no client gets in with a
        /// certificate that has expired or was revoked meanwhile. Open connections stay.
        client_certificates: Option<ClientCertificates> { map_of::<ClientCertificates>(), optional "" },
        /// Whether HTTP/2 is offered beside HTTP/1.1.
        http2: bool { boolean(), default "true", new_process },
        .. {
            /// The certificates of `acme`, after the others.
            ordered: Option<CertificateSource> = None,
            /// Whether handshakes of authorities for `tls-alpn-01` are answered.
            answers_challenges: bool = false,
        }
    }
    check tls_policy::parts_fit;
}

impl ListenerTls {
    /// The sources of the configuration, and then that of ordered certificates.
    pub fn sources(&self) -> impl Iterator<Item = &CertificateSource> {
        self.certificates.iter().chain(&self.ordered)
    }

    /// [`sources`](Self::sources), for other certificates in them.
    pub(crate) fn sources_mut(&mut self) -> impl Iterator<Item = &mut CertificateSource> {
        self.certificates.iter_mut().chain(&mut self.ordered)
    }

    /// The certificates of all sources, in the order of the configuration.
    pub fn all_certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.sources().flat_map(CertificateSource::certificates)
    }

    /// The certificate for names that no certificate has; `None`: handshakes for them are refused.
    pub fn default_certificate(&self) -> Option<&Certificate> {
        let first = self.all_certificates().next();
        first.filter(|_| !self.sni_strict)
    }

    /// Each certificate with those of its names that it serves. `now` is in Unix seconds.
    pub fn serving(&self, now: i64) -> Vec<(&Certificate, Vec<&str>)> {
        let mut served = HashSet::new();
        let sources = self.sources();
        let certificates = sources.flat_map(|source| source.by_preference(now));
        let serving = certificates.map(|certificate| {
            let names = certificate.names.iter().map(String::as_str);
            (
                certificate,
                names.filter(|name| served.insert(*name)).collect(),
            )
        });
        serving.collect()
    }
}

impl ProxyProtocol {
    /// Whether `peer` may announce clients. `None`: it has connected to a Unix socket, so it may.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        let Some(peer) = peer.map(|peer| peer.to_canonical()) else {
            return true;
        };
        let mut trusted = self.trusted.iter().flatten();
        trusted.any(|network| network.contains(&peer))
    }
}

/// The value of `listeners`.
pub(super) fn listeners() -> List<impl Kind<Value = Listener>> {
    list("listeners", map_of::<Listener>().short_for("address"))
        .up_to(MAX_LISTENERS)
        .not_empty(
            "there is no listener; clients need an address to connect to, such as `0.0.0.0:8080`",
        )
        .identified_by(&["address"])
        .checked(addresses_differ)
}

fn addresses_differ(node: &Node, listeners: &[(usize, Listener)], reader: &mut Reader<'_>) {
    for (position, (index, listener)) in listeners.iter().enumerate() {
        let earlier = listeners[..position].iter();
        let problem = earlier.into_iter().find_map(|(first, other)| {
            let owner = format!("listeners[{first}]");
            match (listener.address.as_inet(), other.address.as_inet()) {
                (Some(address), Some(other)) => conflict(address, other, &owner),
                _ if listener.address == other.address => Some(format!(
                    "`{}` is the address of {owner} already",
                    other.address
                )),
                _ => None,
            }
        });
        if let (Some(problem), Some(element)) = (problem, node.elements().get(*index)) {
            reader.in_element(*index, |reader| {
                reader.problem_of_key(element, "address", problem);
            });
        }
    }
}

/// Why `address` cannot be listened on beside `other`, the address of `owner`.
pub(super) fn conflict(address: SocketAddr, other: SocketAddr, owner: &str) -> Option<String> {
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (address, other) = (canonical(address), canonical(other));
    if address == other {
        return Some(format!("`{address}` is the address of {owner} already"));
    }
    // [::] is for IPv6 alone, so 0.0.0.0 beside it is no conflict.
    let is_same_family = address.is_ipv4() == other.is_ipv4();
    let covers = address.ip().is_unspecified() || other.ip().is_unspecified();
    (is_same_family && covers && address.port() == other.port()).then(|| {
        format!(
            "`{address}` overlaps with `{other}` of {owner}: both would listen on the same address"
        )
    })
}

/// An IP address with a port, or a Unix socket.
fn listener_address() -> Scalar<ListenerAddress> {
    let read = |text: &str| match unix_address(text) {
        Some(address) => address,
        None => parse_address(text).map(ListenerAddress::Inet),
    };
    scalar("an IP address with a port", read, |address| json!(address))
}

/// An IP address with a port.
pub(super) fn address() -> Scalar<SocketAddr> {
    scalar("an IP address with a port", parse_address, |address| {
        json!(address)
    })
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let shown = quote(text);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err(format!(
                "{shown} has port 0; clients could not know the port"
            )),
            _ => Ok(address),
        };
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let example = SocketAddr::new(ip, 8080);
        return Err(format!("{shown} has no port; write it as in `{example}`"));
    }
    let (name, port) = text.rsplit_once(':').unwrap_or(("", text));
    let hint = match port.parse::<u16>() {
        Ok(port) if port > 0 && matches!(name, "" | "*") => {
            format!("; did you mean `0.0.0.0:{port}`?")
        }
        Ok(port) if port > 0 && name == "localhost" => {
            format!("; did you mean `127.0.0.1:{port}`?")
        }
        _ => " such as `0.0.0.0:8080`".to_owned(),
    };
    Err(format!("{shown} is not an IP address with a port{hint}"))
}

fn tls_hint(text: &str) -> Option<&'static str> {
    let is_on = matches!(text, "true" | "on" | "yes");
    is_on.then_some("`tls: { certificates: [{ certificate: FILE, key: FILE }] }`")
}
