//! Certificates and keys: read once, so that what cannot work is found before a listener opens.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys, RootCertStore};

use super::super::model::Authorities;
use super::super::surroundings::Surroundings;

/// The certificates in a PEM file, at least one.
pub(super) fn certificates(
    file: &Path,
    surroundings: &dyn Surroundings,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = file.display();
    let content = read(file, surroundings)?;
    let certificates = rustls_pemfile::certs(&mut content.as_slice())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("`{shown}` is not a proper PEM file: {error}"))?;
    if certificates.is_empty() {
        return Err(format!("`{shown}` holds no certificate in PEM form"));
    }
    Ok(certificates)
}

/// The first private key in a PEM file.
pub(super) fn private_key(
    file: &Path,
    surroundings: &dyn Surroundings,
) -> Result<Arc<dyn SigningKey>, String> {
    let shown = file.display();
    let content = read(file, surroundings)?;
    let key: PrivateKeyDer<'static> = rustls_pemfile::private_key(&mut content.as_slice())
        .map_err(|error| format!("`{shown}` is not a proper PEM file: {error}"))?
        .ok_or_else(|| format!("`{shown}` holds no private key in PEM form"))?;
    any_supported_type(&key).map_err(|error| format!("the key in `{shown}` is of no use: {error}"))
}

/// Whether the key belongs to the first certificate of the chain.
pub(super) fn fit(
    certified: &CertifiedKey,
    chain_file: &Path,
    key_file: &Path,
) -> Result<(), String> {
    let (certificate, key) = (chain_file.display(), key_file.display());
    match certified.keys_match() {
        // A key type whose public half rustls cannot read is taken at its word.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(Error::InconsistentKeys(_)) => Err(format!(
            "the key in `{key}` does not belong to the certificate in `{certificate}`"
        )),
        Err(error) => Err(format!(
            "the certificate in `{certificate}` is of no use: {error}"
        )),
    }
}

/// The authorities in a PEM file, at least one, and nothing that cannot be one.
pub(super) fn authorities(
    file: &Path,
    surroundings: &dyn Surroundings,
) -> Result<Authorities, String> {
    let certificates = certificates(file, surroundings)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|error| {
            let shown = file.display();
            format!("`{shown}` holds a certificate that is of no use: {error}")
        })?;
    }
    Ok(Authorities {
        file: file.to_owned(),
        certificates,
    })
}

pub(super) fn read(file: &Path, surroundings: &dyn Surroundings) -> Result<Vec<u8>, String> {
    surroundings
        .read(file)
        .map_err(|error| format!("cannot read `{}`: {error}", file.display()))
}
