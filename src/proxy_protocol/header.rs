//! The bytes of a header, in both versions.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use proxy_header::{ProxiedAddress, ProxyHeader, SslInfo, Tlv};

use super::{ClientTls, ProxiedConnection};
use crate::client_certificate::{ClientCertificate, ClientVerification};
use crate::config::ProxyProtocolVersion;

/// The longest value that a header has, in bytes. A name of a server is not longer, and one of a certificate should not be;
/// hosts take headers of a few KiB only.
const MAX_VALUE: usize = 256;

/// In place of X509_V_OK: the client has shown no certificate. This is OpenSSL's X509_V_ERR_UNSPECIFIED.
const NOT_VERIFIED: u32 = 1;

/// The header for connections that belong to no client: `PROXY UNKNOWN` or LOCAL.
pub(super) fn without_client(version: ProxyProtocolVersion) -> Bytes {
    encode(&ProxyHeader::with_local(), version)
}

/// The header of a client's connection. If one of its addresses is not known, it is the header [`without_client`].
pub(super) fn of_client(client: &ProxiedConnection, version: ProxyProtocolVersion) -> Bytes {
    let (Some(source), Some(destination)) = (client.source, client.destination) else {
        return without_client(version);
    };
    let (source, destination) = of_one_family(source, destination);
    let address = ProxiedAddress::stream(source, destination);
    let header = match (version, &client.tls) {
        (ProxyProtocolVersion::V2, Some(tls)) => ProxyHeader::with_tlvs(Some(address), tlvs(tls)),
        _ => ProxyHeader::with_address(address),
    };
    encode(&header, version)
}

fn encode(header: &ProxyHeader<'_>, version: ProxyProtocolVersion) -> Bytes {
    let mut bytes = Vec::new();
    let encoded = match version {
        ProxyProtocolVersion::V1 => header.encode_v1(&mut bytes),
        ProxyProtocolVersion::V2 => header.encode_v2(&mut bytes),
    };
    encoded.expect("the addresses are of one family, and all values are short");
    bytes.into()
}

/// Both addresses as a header can have them. If just one is of IPv4, it is mapped into IPv6, as HAProxy does.
fn of_one_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical =
        |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    };
    let (source, destination) = (canonical(source), canonical(destination));
    match source.is_ipv4() == destination.is_ipv4() {
        true => (source, destination),
        false => (mapped(source), mapped(destination)),
    }
}

/// What version 2 says about the client's TLS.
fn tlvs(tls: &ClientTls) -> Vec<Tlv<'_>> {
    let alpn = tls.alpn.map(|alpn| Tlv::Alpn(alpn.as_bytes().into()));
    let server_name = tls.server_name.as_deref().filter(|name| is_short(name));
    let authority = server_name.map(|name| Tlv::Authority(name.into()));
    let tlvs = alpn.into_iter().chain(authority);
    tlvs.chain([Tlv::Ssl(ssl_info(tls))]).collect()
}

fn ssl_info(tls: &ClientTls) -> SslInfo<'static> {
    let certificate = match tls.verification.as_deref() {
        Some(ClientVerification::Verified(certificate)) => Some(certificate),
        Some(ClientVerification::Missing) | None => None,
    };
    let has_shown = certificate.is_some();
    let verify = if has_shown { 0 } else { NOT_VERIFIED };
    // Listeners that ask for certificates resume no sessions, so the one of the session is that of the connection.
    let mut info = SslInfo::new(true, has_shown, has_shown, verify);
    info.append_tlv(Tlv::SslVersion(tls.version.replace('_', ".").into()));
    let name = certificate.and_then(|ClientCertificate { common_name, .. }| common_name.as_deref());
    if let Some(name) = name.filter(|name| is_short(name)) {
        info.append_tlv(Tlv::SslCn(name.into()));
    }
    info.append_tlv(Tlv::SslCipher(cipher_name(&tls.cipher)));
    info
}

fn is_short(value: &str) -> bool {
    value.len() <= MAX_VALUE
}

/// The name of a cipher suite of rustls as OpenSSL, and so HAProxy, has it.
fn cipher_name(suite: &str) -> Cow<'_, str> {
    if let Some(suite) = suite.strip_prefix("TLS13_") {
        return format!("TLS_{suite}").into();
    }
    let Some((exchange, cipher)) = suite
        .strip_prefix("TLS_")
        .and_then(|suite| suite.split_once("_WITH_"))
    else {
        return suite.into();
    };
    let cipher = cipher
        .replace("AES_", "AES")
        .replace("POLY1305_SHA256", "POLY1305");
    format!("{exchange}-{cipher}").replace('_', "-").into()
}

#[cfg(test)]
mod tests;
