//! Certificates made for one test.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, RootCertStore,
    ServerConfig, SignatureScheme, StreamOwned, SupportedProtocolVersion,
};

use super::SOON;

static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1);

/// A certificate authority for one test.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Identity {
    certificate: rcgen::Certificate,
    serial: u64,
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
        let issuer = Issuer::new(params, key);
        Authority {
            certificate,
            issuer,
        }
    }

    /// An intermediate authority, signed by this one.
    pub(crate) fn subordinate(&self, name: &str) -> Self {
        let mut params =
            CertificateParams::new(Vec::new()).expect("an empty list of names is valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the authority may sign");
        let issuer = Issuer::new(params, key);
        Authority {
            certificate,
            issuer,
        }
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// What OpenSSL's OCSP responder says of a certificate, good for a week, on a day such as `2030-01-31`; without one
    /// today.
    pub(crate) fn ocsp_response(
        &self,
        identity: &Identity,
        is_revoked: bool,
        day: Option<&str>,
    ) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let ca = write(folder.path(), "ca.pem", &self.pem());
        let key = write(folder.path(), "ca.key", &self.issuer.key().serialize_pem());
        let serial = format!("{:04X}", identity.serial);
        let state = if is_revoked {
            "R\t991231235959Z\t200101000000Z"
        } else {
            "V\t991231235959Z\t"
        };
        let index = format!("{state}\t{serial}\tunknown\t/CN=any\n");
        let index = write(folder.path(), "index", &index);
        let response = folder.path().join("response");
        let mut command = match day {
            Some(day) => {
                let mut command = Command::new("faketime");
                command.arg(format!("{day} 12:00:00")).arg("openssl");
                command
            }
            None => Command::new("openssl"),
        };
        command.args(["ocsp", "-no_nonce", "-noverify"]);
        command
            .arg("-index")
            .arg(index)
            .arg("-rsigner")
            .arg(&ca)
            .arg("-rkey")
            .arg(key);
        command.arg("-CA").arg(&ca).arg("-issuer").arg(&ca);
        command.args(["-serial", &format!("0x{serial}"), "-ndays", "7", "-respout"]);
        let output = command.arg(&response).output().expect("OpenSSL runs");
        assert!(output.status.success(), "{output:?}");
        std::fs::read(response).expect("it is written")
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

    /// A client's certificate with this common name.
    pub(crate) fn issue_named(&self, name: &str) -> Identity {
        let mut params = names_of(&[]);
        params.distinguished_name.push(DnType::CommonName, name);
        self.sign(params)
    }

    /// The list of these revoked certificates as PEM, which is current until the beginning of this year.
    pub(crate) fn revoke(&self, revoked: &[&Identity], until: i32) -> String {
        let entries = revoked.iter().map(|identity| RevokedCertParams {
            serial_number: identity.serial.into(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: entries.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer);
        list.expect("the authority may sign")
            .pem()
            .expect("a list can be written")
    }

    fn sign(&self, mut params: CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key can be made");
        let serial = NEXT_SERIAL.fetch_add(1, Ordering::Relaxed);
        params.serial_number = Some(serial.into());
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the authority may sign");
        Identity {
            certificate,
            serial,
            key,
        }
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
        self.client_with(None, versions)
    }

    /// The same, which shows a certificate where it is asked for one.
    pub(crate) fn client_with(
        &self,
        identity: Option<&Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.der().clone())
            .expect("the certificate is whole");
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.chain_and_key();
                let config = config.with_client_auth_cert(chain, key);
                config.expect("key and certificate fit")
            }
        })
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

    fn chain_and_key(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = vec![CertificateDer::from(self.certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("the key is whole");
        (chain, key)
    }

    /// A server that presents this certificate, and demands one of these authorities from its clients.
    pub(crate) fn server_for(&self, clients: &Authority) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        let added = roots.add(clients.certificate.der().clone());
        added.expect("the certificate is whole");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let (chain, key) = self.chain_and_key();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3")
            .with_client_cert_verifier(verifier.build().expect("an authority"))
            .with_single_cert(chain, key)
            .expect("key and certificate fit");
        Arc::new(config)
    }

    /// A server that presents this certificate.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server_of(rustls::DEFAULT_VERSIONS)
    }

    /// The same, which speaks these versions alone.
    pub(crate) fn server_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let (chain, key) = self.chain_and_key();
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
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
    served(address, name).map(|(certificate, _)| certificate)
}

/// The OCSP response that such a handshake gets; empty: none.
pub(crate) fn stapled_response(address: SocketAddr, name: &str) -> Vec<u8> {
    let (_, response) = served(address, Some(name)).expect("a handshake");
    response
}

fn served(address: SocketAddr, name: Option<&str>) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let anyone = Arc::new(Anyone::default());
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&anyone) as Arc<_>)
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
    let response = anyone.response.lock().expect("no test panics with it");
    Ok((chain[0].to_vec(), response.clone()))
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

/// The alert by which a handshake for `a.test` is refused; `None`: it is not.
pub(crate) fn alert(address: SocketAddr, client: &Arc<ClientConfig>) -> Option<String> {
    let name = ServerName::try_from("a.test").expect("a name");
    let mut session = ClientConnection::new(Arc::clone(client), name).expect("a session");
    let mut socket = TcpStream::connect(address).expect("connected");
    socket.set_read_timeout(Some(SOON)).expect("set");
    let mut refused = None;
    while session.is_handshaking() && refused.is_none() {
        refused = session.complete_io(&mut socket).err();
    }
    if refused.is_none() {
        // With TLS 1.3 the server judges the certificate after the client has finished.
        let request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        session.writer().write_all(request).expect("buffered");
        refused = loop {
            match session.complete_io(&mut socket) {
                Ok((0, 0)) => panic!("the connection ended without an alert"),
                Ok(_)
                    if session
                        .process_new_packets()
                        .is_ok_and(|state| state.plaintext_bytes_to_read() > 0) =>
                {
                    break None;
                }
                Ok(_) => {}
                Err(error) => break Some(error),
            }
        };
    }
    refused.map(|error| error.to_string())
}

/// Accepts every certificate.
#[derive(Debug, Default)]
struct Anyone {
    /// The OCSP response that came with it.
    response: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut response = self.response.lock().expect("no test panics with it");
        *response = ocsp_response.to_vec();
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
