use std::sync::Arc;

use proptest::prelude::*;
use proxy_header::ParseConfig;

use super::*;

fn certificate(common_name: Option<&str>) -> Arc<ClientVerification> {
    Arc::new(ClientVerification::Verified(ClientCertificate {
        subject: String::new(),
        issuer: String::new(),
        serial: String::new(),
        fingerprint: String::new(),
        not_after: String::new(),
        common_name: common_name.map(str::to_owned),
    }))
}

fn client(source: &str, destination: &str, tls: Option<ClientTls>) -> ProxiedConnection {
    let address = |text: &str| Some(text.parse().expect("an address"));
    ProxiedConnection::new(address(source), address(destination), tls)
}

#[test]
fn version_1_is_a_line() {
    for (source, destination, expected) in [
        (
            "192.0.2.7:4711",
            "198.51.100.1:443",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
        ),
        (
            "[2001:db8::7]:4711",
            "[2001:db8::1]:443",
            "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n",
        ),
        // A listener of both families sees clients of IPv4 like this.
        (
            "[::ffff:192.0.2.7]:4711",
            "[::ffff:198.51.100.1]:443",
            "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
        ),
        (
            "192.0.2.7:4711",
            "[2001:db8::1]:443",
            "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 4711 443\r\n",
        ),
    ] {
        let client = client(source, destination, None);
        assert_eq!(of_client(&client, ProxyProtocolVersion::V1), expected);
    }
}

#[test]
fn a_connection_without_a_client_says_so() {
    let unknown = ProxiedConnection::new(None, "127.0.0.1:80".parse().ok(), None);
    for (version, expected) in [
        (ProxyProtocolVersion::V1, &b"PROXY UNKNOWN\r\n"[..]),
        (
            ProxyProtocolVersion::V2,
            &b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..],
        ),
    ] {
        assert_eq!(without_client(version), expected);
        assert_eq!(of_client(&unknown, version), expected);
    }
}

#[test]
fn ciphers_have_their_usual_names() {
    for (suite, expected) in [
        ("TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
        (
            "TLS13_CHACHA20_POLY1305_SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
        ),
        (
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
        ),
        (
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        ("", ""),
    ] {
        assert_eq!(cipher_name(suite), expected);
    }
}

proptest! {
    /// Whatever the client is, the header is read back as it was meant, and not longer than hosts accept.
    #[test]
    fn headers_are_read_back(
        source in any::<SocketAddr>(),
        destination in any::<SocketAddr>(),
        is_v2 in any::<bool>(),
        has_tls in any::<bool>(),
        server_name in proptest::option::of(".{0,300}"),
        common_name in proptest::option::of(".{0,300}"),
        has_certificate in any::<bool>(),
    ) {
        let tls = has_tls.then(|| ClientTls {
            version: "TLSv1_3".into(),
            cipher: "TLS13_AES_256_GCM_SHA384".into(),
            alpn: Some("h2"),
            server_name: server_name.clone(),
            verification: has_certificate.then(|| certificate(common_name.as_deref())),
        });
        let client = ProxiedConnection::new(Some(source), Some(destination), tls);
        let version = match is_v2 {
            true => ProxyProtocolVersion::V2,
            false => ProxyProtocolVersion::V1,
        };
        let header = of_client(&client, version);
        let longest = if is_v2 { 1_024 } else { 107 };
        prop_assert!(header.len() <= longest, "{} bytes", header.len());
        let (parsed, length) = ProxyHeader::parse(&header, ParseConfig::default()).expect("a header");
        prop_assert_eq!(length, header.len());
        let address = parsed.proxied_address().expect("an address");
        for (read, meant) in [(address.source, source), (address.destination, destination)] {
            prop_assert_eq!(read.ip().to_canonical(), meant.ip().to_canonical());
            prop_assert_eq!(read.port(), meant.port());
        }
        prop_assert!(parsed.tlvs().all(|tlv| tlv.is_ok()));
        if !(is_v2 && has_tls) {
            prop_assert_eq!(parsed.tlvs().count(), 0);
            return Ok(());
        }
        let short = |value: &Option<String>| value.clone().filter(|value| value.len() <= MAX_VALUE);
        prop_assert_eq!(parsed.alpn(), Some(&b"h2"[..]));
        prop_assert_eq!(parsed.authority().map(str::to_owned), short(&server_name));
        let ssl = parsed.ssl().expect("TLS");
        prop_assert!(ssl.client_ssl());
        prop_assert_eq!(ssl.client_cert_conn(), has_certificate);
        prop_assert_eq!(ssl.client_cert_sess(), has_certificate);
        prop_assert_eq!(ssl.verify() == 0, has_certificate);
        prop_assert_eq!(ssl.version(), Some("TLSv1.3"));
        prop_assert_eq!(ssl.cipher(), Some("TLS_AES_256_GCM_SHA384"));
        let name = short(&common_name).filter(|_| has_certificate);
        prop_assert_eq!(ssl.cn().map(str::to_owned), name);
    }
}
