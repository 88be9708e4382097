//! Certificates made for one test.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, RootCertStore,
    ServerConfig, SignatureScheme, StreamOwned, SupportedProtocolVersion,
};

use super::SOON;

/// A certificate authority for one test.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// A certificate and its key.
pub(crate) struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params =
            CertificateParams::new(Vec::new()).expect("an empty list of names is valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key).expect("the parameters are whole");
        Authority { certificate, key }
    }

    /// An intermediate authority, signed by this one.
    pub(crate) fn subordinate(&self, name: &str) -> Self {
        let mut params =
            CertificateParams::new(Vec::new()).expect("an empty list of names is valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params
            .signed_by(&key, &self.certificate, &self.key)
            .expect("the authority may sign");
        Authority { certificate, key }
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A server's certificate for these names (DNS names or addresses).
    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        self.sign(names_of(names))
    }

    /// The same, expired years ago.
    pub(crate) fn issue_expired(&self, names: &[&str]) -> Identity {
        self.issue_between(names, 2001, 2002)
    }

    /// The same, valid from the beginning of one year to the beginning of another.
    pub(crate) fn issue_between(&self, names: &[&str], from: i32, until: i32) -> Identity {
        let mut params = names_of(names);
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params
            .signed_by(&key, &self.certificate, &self.key)
            .expect("the authority may sign");
        Identity { certificate, key }
    }

    /// Writes the authority's certificate as PEM.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> PathBuf {
        write(folder, name, &self.certificate.pem())
    }

    /// A client that trusts only this authority.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client_of(rustls::DEFAULT_VERSIONS)
    }

    /// The same, which speaks these versions alone. It resumes its sessions.
    pub(crate) fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.der().clone())
            .expect("the certificate is whole");
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

impl Identity {
    /// The certificate.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The certificate as clients get it.
    pub(crate) fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    /// The key.
    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Writes `NAME.crt` and `NAME.key` as PEM.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        (
            write(folder, &format!("{name}.crt"), &self.certificate.pem()),
            write(folder, &format!("{name}.key"), &self.key.serialize_pem()),
        )
    }

    /// A server that presents this certificate.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let chain = vec![CertificateDer::from(self.certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("the key is whole");
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("key and certificate fit");
        Arc::new(config)
    }
}

/// The certificate that a handshake for `name` gets, whatever it is worth; without a name none is sent.
pub(crate) fn served_certificate(
    address: SocketAddr,
    name: Option<&str>,
) -> std::io::Result<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    // Addresses are never sent as names.
    let name = ServerName::try_from(name.unwrap_or("127.0.0.1").to_owned()).expect("a name");
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(Error::other)?;
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(SOON))?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    let chain = session.peer_certificates().unwrap_or_default();
    Ok(chain[0].to_vec())
}

/// How the handshake of a request for `a.test` went. The answer is read to its end, so that the session can be resumed.
pub(crate) fn handshake_kind(
    address: SocketAddr,
    client: &Arc<ClientConfig>,
) -> std::io::Result<HandshakeKind> {
    let name = ServerName::try_from("a.test").expect("a name");
    let session = ClientConnection::new(Arc::clone(client), name).map_err(Error::other)?;
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(SOON))?;
    let mut stream = StreamOwned::new(session, socket);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    assert!(response.starts_with(b"HTTP/1.1 200"), "{response:?}");
    stream
        .conn
        .handshake_kind()
        .ok_or_else(|| ErrorKind::NotConnected.into())
}

/// Accepts every certificate.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
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
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn names_of(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("tests use valid names")
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the test's folder can be written");
    path
}
