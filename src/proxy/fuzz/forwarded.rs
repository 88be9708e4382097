//! The address of the client behind trusted proxies, and the X-Forwarded fields that its host gets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::HOST;
use pingora::http::RequestHeader;

use super::{lines, request, values};
use crate::config::TrustedProxy;
use crate::fuzz;
use crate::message::FieldsView;
use crate::proxy::forwarding::x_forwarded::{ClientOrigin, ConnectionInfo, LocalAddress};

const FOR: &str = "x-forwarded-for";

/// Checks the client's address. The first line is the peer's address, the second a list of trusted networks, the rest a
/// request.
fn forwarded(input: &[u8]) {
    let mut lines = lines(input);
    let mut line = || String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let peer = line();
    let peer = match peer.trim() {
        "unix:" => None,
        peer => match peer.parse::<IpAddr>() {
            Ok(peer) => Some(peer),
            Err(_) => return,
        },
    };
    let networks = line();
    let networks = networks.split([' ', ',']).filter_map(|net| match net {
        "unix:" => Some(TrustedProxy::Unix),
        net => net.parse().ok().map(TrustedProxy::Network),
    });
    let trusted = Vec::from_iter(networks);
    let Some(request) = request(lines) else {
        return;
    };
    let is_trusted = |peer| trusted.iter().any(|proxy| proxy.includes(peer));
    let origin = ClientOrigin::new(peer, (&request.headers).into(), &trusted);
    let canonical = |address: Option<IpAddr>| address.map(|address| address.to_canonical());
    assert_eq!(origin.peer, canonical(peer));
    assert_eq!(origin.trusted, is_trusted(origin.peer));
    assert_eq!(origin.client, canonical(origin.client));

    // Read from the right, each hop is vouched for by its successor. The client is the last address reported by a
    // trusted hop.
    let fields = request.headers.get_all(FOR).iter();
    let chain = fields.map(|field| String::from_utf8_lossy(field.as_bytes()).into_owned());
    let chain = Vec::from_iter(chain).join(",");
    let mut client = origin.peer;
    for hop in chain.rsplit(',') {
        match hop_address(hop) {
            Some(address) if is_trusted(client) => client = Some(address),
            _ => break,
        }
    }
    assert_eq!(origin.client, client);

    // Entries to the left of the client's address change nothing.
    if !is_trusted(client) {
        let mut forged = RequestHeader::build("GET", b"/", None).unwrap();
        forged.append_header(FOR, "198.51.100.66").unwrap();
        for field in request.headers.get_all(FOR) {
            forged.append_header(FOR, field.clone()).unwrap();
        }
        assert_eq!(
            ClientOrigin::new(peer, (&forged.headers).into(), &trusted),
            origin
        );
    }
    for tls in [false, true] {
        assert_forwarded_fields(&origin, request.clone(), &trusted, tls);
    }
}

fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim_ascii();
    let bracketed = hop.starts_with('[') && hop.ends_with(']') && hop.len() > 1;
    let bare = if bracketed {
        &hop[1..hop.len() - 1]
    } else {
        hop
    };
    let with_port = || hop.parse::<SocketAddr>().map(|address| address.ip());
    let address = bare.parse().or_else(|_| with_port()).ok()?;
    Some(IpAddr::to_canonical(&address))
}

/// The host gets the true client, and a second proxy that trusts this one finds the same client.
fn assert_forwarded_fields(
    origin: &ClientOrigin,
    mut request: RequestHeader,
    trusted: &[TrustedProxy],
    tls: bool,
) {
    let before = request.clone();
    if !origin.trusted {
        // Untrusted fields have been dropped before this step.
        for name in ["x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"] {
            request.remove_header(name);
        }
    }
    let connection = ConnectionInfo {
        tls,
        local: Some(LocalAddress::Inet(([127, 0, 0, 1], 8443).into())),
        verification: None,
        proxied: None,
    };
    let received = request.clone();
    let fields = FieldsView::from(&received.headers);
    let outcome = origin.set_forwarded_fields(fields, fields.get(&HOST), connection, &mut request);
    outcome.expect("values of a request can stand in one");
    let peer = origin.peer.map(|peer| peer.to_string().into_bytes());
    let chains = values(&request, FOR);
    let before_values = |name: &str| values(&before, name);
    let is_kept = |name: &str| origin.trusted && !before_values(name).is_empty();
    match is_kept(FOR) {
        true => assert!(chains.len() == 1 && chains[0].ends_with(peer.as_deref().unwrap_or(b""))),
        false => assert!(chains.iter().eq(&peer)),
    }
    let scheme: &[u8] = if tls { b"https" } else { b"http" };
    let (proto, host) = ("x-forwarded-proto", "x-forwarded-host");
    match is_kept(proto) {
        true => assert_eq!(values(&request, proto), before_values(proto)),
        false => assert_eq!(values(&request, proto), [scheme]),
    }
    match is_kept(host) {
        true => assert_eq!(values(&request, host), before_values(host)),
        false => assert!(
            values(&request, host)
                .iter()
                .eq(before_values("host").iter().take(1))
        ),
    }
    let client = origin.client.map(|client| client.to_string().into_bytes());
    assert!(values(&request, "x-real-ip").iter().eq(&client));
    let port = "x-forwarded-port";
    match is_kept(port) {
        true => assert_eq!(values(&request, port), before_values(port)),
        false if is_kept(proto) => assert_eq!(values(&request, port).len(), 1),
        false => assert_eq!(values(&request, port), [b"8443"]),
    }
    let here: IpAddr = Ipv4Addr::new(203, 0, 113, 77).into();
    // What no proxy has, the next one cannot find.
    if origin.peer.is_none() {
        return;
    }
    if chains.iter().eq(&peer)
        || *origin == ClientOrigin::new(origin.peer, (&before.headers).into(), trusted)
    {
        let trusted = [trusted, &[TrustedProxy::Network(here.into())]].concat();
        let next = ClientOrigin::new(Some(here), (&request.headers).into(), &trusted);
        assert_eq!(next.client, origin.client);
    }
}

#[test]
fn fuzz_forwarded() {
    const WORDS: &[&str] = &[
        "X-Forwarded-For: ",
        "X-Forwarded-Proto: ",
        "X-Forwarded-Host: ",
        "Host: ",
        ", ",
        ",",
        "10.0.0.1",
        "10.0.0.0/8",
        "192.0.2.1",
        "203.0.113.9",
        "::1",
        "::/0",
        "0.0.0.0/0",
        "::ffff:10.0.0.1",
        "[2001:db8::1]",
        ":4711",
        "[",
        "]",
        "unknown",
        "_hidden",
        "%1",
        "\n/\n",
    ];
    fuzz::run("forwarded", WORDS, forwarded);
}
