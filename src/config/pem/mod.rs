//! Certificates and keys. They are checked when the file is read, so that a listener never opens with unusable ones.

mod blocks;
mod key_kind;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys, RootCertStore};
use webpki::OwnedCertRevocationList;
use x509_parser::parse_x509_certificate;

use super::environment::{Environment, without_bom};
use super::hints::quote;
use super::pool_tls::Authorities;

use blocks::{Block, blocks};

/// The keys that can be used, for messages about others.
const USABLE: &str = "RSA keys of 2048 to 4096 bits, EC keys on the curves P-256 and P-384, and Ed25519 keys can be used";

/// A private key, and its DER.
pub(super) type KeyWithDer = (Arc<dyn SigningKey>, Vec<u8>);

/// The certificates in a PEM file, at least one. Keys and parameters may stand between them; anything else is an error,
/// so that no certificate is left out silently.
pub(super) fn certificates(
    file: &Path,
    environment: &dyn Environment,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = text(file, environment)?;
    let shown = file.display();
    let mut certificates = Vec::new();
    for block in blocks(&text).map_err(|reason| improper(file, &reason))? {
        let line = block.line;
        match block.label {
            "CERTIFICATE" | "X509 CERTIFICATE" => {
                let certificate = CertificateDer::from(block.der);
                // The first one is checked with its key.
                if !certificates.is_empty() && !is_certificate(&certificate) {
                    return Err(format!(
                        "the section on line {line} of `{shown}` does not hold a certificate"
                    ));
                }
                certificates.push(certificate);
            }
            label if label.ends_with("PRIVATE KEY") || label.ends_with(" PARAMETERS") => {}
            label => {
                let hint = match label {
                    "TRUSTED CERTIFICATE" => {
                        ", OpenSSL's own form of a certificate; `openssl x509 -in FILE` makes a plain one of it"
                    }
                    "PKCS7" | "CMS" => {
                        ", which may hold certificates; `openssl pkcs7 -print_certs -in FILE` takes them out"
                    }
                    "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
                        ", what an authority makes a certificate of"
                    }
                    _ => "",
                };
                return Err(format!(
                    "line {line} of `{shown}` begins a section {}, not a certificate{hint}",
                    quote(label)
                ));
            }
        }
    }
    if certificates.is_empty() {
        return Err(format!("`{shown}` holds no certificate in PEM form"));
    }
    Ok(certificates)
}

/// The usable private keys in a PEM file, at least one. Certificates and parameters may stand beside them.
pub(super) fn private_keys(
    file: &Path,
    environment: &dyn Environment,
) -> Result<Vec<Arc<dyn SigningKey>>, String> {
    let keys = private_keys_with_der(file, environment)?;
    Ok(keys.into_iter().map(|(key, _)| key).collect())
}

/// The same, each with its DER.
pub(super) fn private_keys_with_der(
    file: &Path,
    environment: &dyn Environment,
) -> Result<Vec<KeyWithDer>, String> {
    let text = text(file, environment)?;
    let shown = file.display();
    let mut keys = Vec::new();
    let mut useless = None;
    for block in blocks(&text).map_err(|reason| improper(file, &reason))? {
        if !block.label.ends_with("PRIVATE KEY") {
            continue;
        }
        match usable(&block) {
            Ok(key) => keys.push((key, block.der)),
            Err(reason) => {
                let line = match block.line {
                    1 => String::new(),
                    line => format!(" (line {line})"),
                };
                let reason = format!("the key in `{shown}`{line} cannot be used: {reason}");
                useless.get_or_insert(reason);
            }
        }
    }
    match (keys.is_empty(), useless) {
        (false, _) => Ok(keys),
        (true, Some(reason)) => Err(reason),
        (true, None) => Err(format!("`{shown}` holds no private key in PEM form")),
    }
}

fn usable(block: &Block<'_>) -> Result<Arc<dyn SigningKey>, String> {
    let der = &*block.der;
    let encrypted = "it is encrypted, and a passphrase cannot be given; `openssl pkey -in FILE -out FILE` writes it without one";
    if block.is_encrypted {
        return Err(encrypted.to_owned());
    }
    let (key, kind) = match block.label {
        "PRIVATE KEY" => (
            PrivateKeyDer::Pkcs8(der.to_vec().into()),
            key_kind::of_pkcs8(der),
        ),
        "RSA PRIVATE KEY" => (
            PrivateKeyDer::Pkcs1(der.to_vec().into()),
            key_kind::of_pkcs1(der),
        ),
        "EC PRIVATE KEY" => (
            PrivateKeyDer::Sec1(der.to_vec().into()),
            key_kind::of_sec1(der),
        ),
        "ENCRYPTED PRIVATE KEY" => return Err(encrypted.to_owned()),
        "OPENSSH PRIVATE KEY" => {
            return Err(
                "it has OpenSSH's own form; `ssh-keygen -p -m PKCS8 -f FILE` changes that"
                    .to_owned(),
            );
        }
        label => return Err(format!("it is {}; {USABLE}", quote(label))),
    };
    any_supported_type(&key).map_err(|error| match kind {
        Some(kind) => format!("it is {kind}; {USABLE} ({error})"),
        None => format!("{error}; {USABLE}"),
    })
}

/// The key among `keys` that belongs to the first certificate of a chain; the first one where none does.
pub(super) fn fitting(
    chain: Vec<CertificateDer<'static>>,
    keys: Vec<Arc<dyn SigningKey>>,
) -> Option<CertifiedKey> {
    let fits = |key: &Arc<dyn SigningKey>| {
        CertifiedKey::new(chain.clone(), Arc::clone(key))
            .keys_match()
            .is_ok()
    };
    let position = match keys.len() {
        1 => 0,
        _ => keys.iter().position(fits).unwrap_or(0),
    };
    let key = keys.into_iter().nth(position)?;
    Some(CertifiedKey::new(chain, key))
}

/// Whether the key belongs to the first certificate of the chain.
pub(super) fn fit(
    certified: &CertifiedKey,
    chain_file: &Path,
    key_file: &Path,
) -> Result<(), String> {
    let (certificate, key) = (chain_file.display(), key_file.display());
    match certified.keys_match() {
        // rustls cannot read the public half of some key types; those are accepted unchecked.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(Error::InconsistentKeys(_)) => Err(format!(
            "the key in `{key}` does not belong to the certificate in `{certificate}`"
        )),
        Err(error) => Err(format!(
            "the certificate in `{certificate}` cannot be used: {error}"
        )),
    }
}

/// The authorities in a PEM file, at least one. A certificate that cannot be an authority is an error.
pub(super) fn authorities(
    file: &Path,
    environment: &dyn Environment,
) -> Result<Authorities, String> {
    let certificates = certificates(file, environment)?;
    let mut store = RootCertStore::empty();
    let useless = |reason: &dyn fmt::Display| {
        let shown = file.display();
        format!("`{shown}` holds a certificate that cannot be used: {reason}")
    };
    for certificate in &certificates {
        store
            .add(certificate.clone())
            .map_err(|error| useless(&error))?;
        // This parser is stricter than rustls, for instance about dates; Pingora uses it again later and panics.
        parse_x509_certificate(certificate).map_err(|error| useless(&error))?;
    }
    Ok(Authorities {
        file: file.to_owned(),
        certificates,
    })
}

/// The certificate revocation lists in a PEM file, at least one, each of which can be used.
pub(super) fn revocation_lists(
    file: &Path,
    environment: &dyn Environment,
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let text = text(file, environment)?;
    let shown = file.display();
    let mut lists = Vec::new();
    for block in blocks(&text).map_err(|reason| improper(file, &reason))? {
        let (line, label) = (block.line, quote(block.label));
        if block.label != "X509 CRL" {
            return Err(format!(
                "line {line} of `{shown}` begins a section {label}, not a revocation list (X509 CRL)"
            ));
        }
        OwnedCertRevocationList::from_der(&block.der).map_err(|error| {
            format!("the revocation list on line {line} of `{shown}` cannot be used: {error}")
        })?;
        lists.push(block.der.into());
    }
    match lists.is_empty() {
        true => Err(format!("`{shown}` holds no revocation list in PEM form")),
        false => Ok(lists),
    }
}

fn is_certificate(der: &CertificateDer<'_>) -> bool {
    ParsedCertificate::try_from(der).is_ok() || parse_x509_certificate(der).is_ok()
}

fn improper(file: &Path, reason: &str) -> String {
    format!("`{}` is not a proper PEM file: {reason}", file.display())
}

/// The text of a PEM file. The text between sections may have any encoding.
fn text(file: &Path, environment: &dyn Environment) -> Result<String, String> {
    let content = read(file, environment)?;
    if content.starts_with(b"\x30\x82") {
        let shown = file.display();
        return Err(format!(
            "`{shown}` holds DER, not PEM; `openssl x509 -inform der` and `openssl pkey -inform der` make PEM of it"
        ));
    }
    Ok(String::from_utf8_lossy(without_bom(&content)).into_owned())
}

pub(super) fn read(file: &Path, environment: &dyn Environment) -> Result<Vec<u8>, String> {
    environment
        .read(file)
        .map_err(|error| format!("cannot read `{}`: {error}", file.display()))
}
