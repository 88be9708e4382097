//! TLS to hosts.
//!
//! Pingora makes a configuration of rustls for each connection, so that it finds no session to resume, and it cannot be told
//! the lowest version. So connections of HTTP/1.1 by the engine and for requests of the proxy's own are opened here, with a
//! configuration that is made once for each pool. It knows the sessions of one host alone: another host would not resume
//! them, and other authorities or another certificate never see them.
//!
//! Pingora opens the rest: those of HTTP/2, of clients that it serves, and of health checks. [`check_version`] refuses what
//! such a connection has negotiated before a request is sent.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pingora::connectors::TransportConnector;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::tls::client::handshake;
use pingora::protocols::{Stream, l4};
use pingora::tls::{TlsConnector, load_native_certs};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::time::timeout;

use crate::config::{Authorities, PoolTls, TlsVersion};
use crate::host_socket::HostSocket;

/// The error type for a host that has chosen a version below the pool's lowest.
pub(crate) const LOW_TLS_VERSION: ErrorType = ErrorType::new("LowTlsVersion");

/// The maximum number of sessions that are kept for a host. Of TLS 1.3 each is good for one connection, and a handshake
/// brings between one and four.
const SESSIONS: usize = 8;

/// What the hosts of a pool have in common.
#[derive(Debug, Clone)]
pub(crate) struct PoolTlsClient {
    min_version: TlsVersion,
    /// `None`: Pingora does all handshakes.
    config: Option<ClientConfig>,
}

impl PoolTlsClient {
    /// `speaks_http2`: Pingora opens all connections.
    ///
    /// # Errors
    /// If the authorities or the certificate cannot be used, or those of the system cannot be read.
    pub(crate) fn new(tls: &PoolTls, speaks_http2: bool) -> Result<Self, String> {
        let config = (!speaks_http2).then(|| client_config(tls)).transpose()?;
        Ok(PoolTlsClient {
            min_version: tls.min_version,
            config,
        })
    }

    /// For the host to which `peer` leads.
    pub(crate) fn for_host(&self, peer: &HttpPeer) -> HostTls {
        let config = self.config.clone().map(|mut config| {
            config.resumption = Resumption::in_memory_sessions(SESSIONS);
            Arc::new(config)
        });
        let is_verified = peer.options.verify_cert;
        let as_in_certificates = || hyphenated(&peer.sni).filter(|_| is_verified);
        HostTls {
            min_version: self.min_version,
            server_name: as_in_certificates().unwrap_or_else(|| peer.sni.clone()),
            config,
        }
    }
}

/// TLS to one host.
#[derive(Debug)]
pub(crate) struct HostTls {
    min_version: TlsVersion,
    /// The name that is sent and verified.
    server_name: String,
    /// Without it Pingora does the handshake.
    config: Option<Arc<ClientConfig>>,
}

impl HostTls {
    /// The lowest version that is spoken.
    pub(crate) fn min_version(&self) -> TlsVersion {
        self.min_version
    }

    /// Opens a connection for HTTP/1.1 within the peer's timeout, and resumes a session if there is one.
    ///
    /// # Errors
    /// Those of Pingora's connector.
    pub(crate) async fn connect(
        &self,
        connector: &TransportConnector,
        peer: &HttpPeer,
    ) -> Result<Stream> {
        let Some(config) = &self.config else {
            let stream = connector.new_stream(peer).await?;
            check_version(self.min_version, stream.get_ssl_digest().as_deref())?;
            return Ok(stream);
        };
        let connecting = self.open(config, peer);
        match peer.options.total_connection_timeout {
            Some(limit) => match timeout(limit, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(late(peer, limit)),
            },
            None => connecting.await,
        }
    }

    async fn open(&self, config: &Arc<ClientConfig>, peer: &HttpPeer) -> Result<Stream> {
        let mut socket = open_socket(peer).await?;
        socket.set_nodelay()?;
        let connector = TlsConnector::from(Arc::clone(config));
        match handshake(&connector, &self.server_name, socket).await {
            Ok(stream) => Ok(Box::new(stream)),
            // The host's alert does not say which versions it speaks.
            Err(error) if self.min_version > TlsVersion::Tls12 => {
                Err(error.more_context("min_version of the pool is 1.3"))
            }
            Err(error) => Err(error),
        }
    }
}

/// Opens the connection below TLS, which may begin with a PROXY header.
async fn open_socket(peer: &HttpPeer) -> Result<l4::stream::Stream> {
    if let Some(connector) = &peer.options.custom_l4 {
        return connector.connect(&peer._address).await;
    }
    Ok(HostSocket::connect(&peer._address).await?.into())
}

fn late(peer: &HttpPeer, limit: Duration) -> Box<Error> {
    let late = format!("no connection to {} within {limit:?}", peer._address);
    Error::explain(ErrorType::ConnectTimedout, late)
}

/// Refuses a connection of Pingora whose version is too low.
///
/// # Errors
/// [`LOW_TLS_VERSION`], with both versions in its context.
pub(crate) fn check_version(min_version: TlsVersion, digest: Option<&SslDigest>) -> Result<()> {
    // Pingora speaks nothing below TLS 1.2.
    if min_version == TlsVersion::Tls12 {
        return Ok(());
    }
    let version = digest.map_or("", |digest| &*digest.version);
    match version {
        "TLSv1_3" => Ok(()),
        other => {
            let other = match other {
                "TLSv1_2" => "TLS 1.2",
                other => other,
            };
            let reason = format!("the host has chosen {other}, and min_version of the pool is 1.3");
            Error::e_explain(LOW_TLS_VERSION, reason)
        }
    }
}

/// The configuration without sessions.
fn client_config(tls: &PoolTls) -> Result<ClientConfig, String> {
    let versions: &[_] = match tls.min_version {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match tls.verify {
        true => builder.with_root_certificates(trusted_authorities(tls.ca.as_ref())?),
        false => {
            let verifier = Arc::new(AnyCertificate(provider));
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        }
    };
    let mut config = match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            let der = key.der_for(&certificate.chain).unwrap_or_default();
            let key = PrivateKeyDer::try_from(der.to_vec());
            let key = key.map_err(|error| format!("the key of its certificate: {error}"))?;
            let with_key = builder.with_client_auth_cert(certificate.chain.clone(), key);
            with_key.map_err(|error| format!("the certificate for hosts: {error}"))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// These authorities, or without them those of the system.
///
/// # Errors
/// If one of them cannot be used, or those of the system cannot be read.
pub(crate) fn trusted_authorities(
    authorities: Option<&Authorities>,
) -> Result<Arc<RootCertStore>, String> {
    let Some(authorities) = authorities else {
        return system_authorities();
    };
    let mut store = RootCertStore::empty();
    for certificate in &authorities.certificates {
        let added = store.add(certificate.clone());
        added.map_err(|error| format!("an authority in `ca`: {error}"))?;
    }
    Ok(Arc::new(store))
}

/// The authorities of the system, read once like those of Pingora: they take 400 KiB.
fn system_authorities() -> Result<Arc<RootCertStore>, String> {
    static AUTHORITIES: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(store) = AUTHORITIES.get() {
        return Ok(Arc::clone(store));
    }
    let certificates = load_native_certs();
    let certificates =
        certificates.map_err(|error| format!("the authorities of the system: {error}"))?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates);
    Ok(Arc::clone(AUTHORITIES.get_or_init(|| Arc::new(store))))
}

/// A subdomain with hyphens in place of underscores in its first label, as Pingora asks for it; certificates have no
/// underscores. `None`: there is nothing to replace.
fn hyphenated(name: &str) -> Option<String> {
    let (first, rest) = name.split_once('.')?;
    let replaces = rest.contains('.') && first.contains('_');
    replaces.then(|| format!("{}.{rest}", first.replace('_', "-")))
}

/// Takes any certificate whose key the host has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(version: &'static str) -> SslDigest {
        SslDigest::new("", version, None, None, Vec::new())
    }

    #[test]
    fn a_version_below_the_lowest_is_refused() {
        let check = |min, version| check_version(min, Some(&digest(version))).is_ok();
        assert!(check(TlsVersion::Tls12, "TLSv1_2") && check(TlsVersion::Tls12, "TLSv1_3"));
        assert!(!check(TlsVersion::Tls13, "TLSv1_2") && check(TlsVersion::Tls13, "TLSv1_3"));
        assert!(check_version(TlsVersion::Tls13, None).is_err());
    }

    #[test]
    fn underscores_of_the_first_label_become_hyphens() {
        assert_eq!(hyphenated("a_b.c.test").as_deref(), Some("a-b.c.test"));
        for name in ["a_b", "a_b.test", "a.b_c.test", "a.b.test", "127.0.0.1"] {
            assert_eq!(hyphenated(name), None, "{name}");
        }
    }
}
