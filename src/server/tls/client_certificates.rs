//! Which certificates of clients a listener accepts.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::listeners::TlsAccept;
use pingora::protocols::tls::TlsRef;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use crate::client_certificate::{ClientCertificate, ClientVerification};
use crate::config::{CertificateMode, ClientCertificates};

/// What verifies the certificates of clients as `section` says.
///
/// # Errors
/// An authority or a revocation list that cannot be used, in words.
pub(super) fn verifier(
    section: &ClientCertificates,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in &section.ca.certificates {
        let added = roots.add(certificate.clone());
        added.map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(crl) = &section.crl {
        // A list that has expired may lack the certificates that were revoked since.
        builder = builder
            .with_crls(crl.lists.iter().cloned())
            .enforce_revocation_expiration();
    }
    if section.mode == CertificateMode::Optional {
        builder = builder.allow_unauthenticated();
    }
    let inner = builder.build().map_err(|error| error.to_string())?;
    Ok(Arc::new(ReadableCertificates(inner)))
}

/// Refuses what hosts could not be told of, in addition to what the inner verifier refuses.
#[derive(Debug)]
struct ReadableCertificates(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for ReadableCertificates {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        match ClientCertificate::parse(end_entity) {
            Some(_) => Ok(verified),
            None => Err(CertificateError::BadEncoding.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Notes the outcome with the connection, see [`ClientVerification::of`].
pub(super) struct VerificationNote;

#[async_trait]
impl TlsAccept for VerificationNote {
    async fn handshake_complete_callback(
        &self,
        tls: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let certificate = tls.peer_certificate_der();
        // The handshake has failed for one that cannot be parsed.
        let certificate = certificate.and_then(ClientCertificate::parse);
        let verification = match certificate {
            Some(certificate) => ClientVerification::Verified(certificate),
            None => ClientVerification::Missing,
        };
        Some(Arc::new(Arc::new(verification)))
    }
}
