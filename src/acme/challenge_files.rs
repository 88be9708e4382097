//! The answers to challenges as files, from which every instance takes them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::state_directory::{read, remove, write};
use crate::acme_challenges::ChallengeAnswers;

/// What the names of files begin with, before a token or a domain.
const HTTP: &str = "http-";
const TLS: &str = "tls-";

/// Files that are read. One instance orders at a time, so there are a few.
const MAX_FILES: usize = 256;

/// The files that were read, by name, each with what differs once another is in its place.
pub(super) type SeenFiles = BTreeMap<String, (u64, i64, i64)>;

/// Writes the answer to `http-01`.
pub(super) fn write_http(directory: &Path, token: &str, key_authorization: &str) -> io::Result<()> {
    if !is_token(token) {
        // It becomes a part of a path.
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the authority's token is malformed",
        ));
    }
    write(
        &directory.join(format!("{HTTP}{token}")),
        key_authorization.as_bytes(),
    )
}

/// Writes the answer to `tls-alpn-01`: a certificate with the digest of the key authorization (RFC 8737 3).
pub(super) fn write_tls(directory: &Path, domain: &str, digest: &[u8]) -> io::Result<()> {
    let made = (|| {
        let mut params = CertificateParams::new([domain.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(certificate.pem() + &key.serialize_pem())
    })();
    let text = made.map_err(|error: rcgen::Error| io::Error::other(error))?;
    write(&directory.join(format!("{TLS}{domain}")), text.as_bytes())
}

/// Removes all answers.
pub(super) fn clear(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        remove(&entry?.path())?;
    }
    Ok(())
}

/// The answers that there are now, unless they are those in `seen`, which is brought up to date.
pub(super) fn read_changed(
    directory: &Path,
    seen: &mut SeenFiles,
) -> io::Result<Option<ChallengeAnswers>> {
    let mut now = SeenFiles::new();
    for entry in fs::read_dir(directory)?.take(MAX_FILES) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // One that is gone by now is not listed.
        if let Ok(file) = entry.metadata() {
            now.insert(name, (file.ino(), file.ctime(), file.ctime_nsec()));
        }
    }
    if now == *seen {
        return Ok(None);
    }
    let mut answers = ChallengeAnswers::default();
    for name in now.keys() {
        let content = || read(&directory.join(name)).ok();
        if let Some(token) = name.strip_prefix(HTTP).filter(|token| is_token(token)) {
            let content = content().map(|content| (token.to_owned(), Bytes::from(content)));
            answers.http.extend(content);
        } else if let Some(domain) = name.strip_prefix(TLS) {
            let certified = content().and_then(|content| certified(&content));
            let certified = certified.map(|certified| (domain.to_owned(), Arc::new(certified)));
            answers.tls.extend(certified);
        }
    }
    *seen = now;
    Ok(Some(answers))
}

/// Whether a token has the form that it must have: base64url (RFC 8555 8.3).
fn is_token(token: &str) -> bool {
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=200).contains(&token.len()) && token.bytes().all(is_base64)
}

fn certified(text: &[u8]) -> Option<CertifiedKey> {
    let certificate = CertificateDer::from_pem_slice(text).ok()?;
    let key = any_supported_type(&PrivateKeyDer::from_pem_slice(text).ok()?).ok()?;
    Some(CertifiedKey::new(vec![certificate], key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_once_and_again_if_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut seen) = (folder.path(), SeenFiles::new());
        assert!(read_changed(path, &mut seen).unwrap().is_none());
        write_http(path, "to-ken_1", "to-ken_1.thumbprint").unwrap();
        write_tls(path, "a.test", &[7; 32]).unwrap();
        fs::write(path.join("http-.."), "not a token").unwrap();
        fs::write(path.join("tls-b.test"), "not a certificate").unwrap();
        let answers = read_changed(path, &mut seen).unwrap().expect("new files");
        assert_eq!(answers.http["to-ken_1"], "to-ken_1.thumbprint");
        assert_eq!(Vec::from_iter(answers.tls.keys()), ["a.test"]);
        assert!(read_changed(path, &mut seen).unwrap().is_none());
        let before = answers.tls["a.test"].cert.clone();
        write_tls(path, "a.test", &[8; 32]).unwrap();
        let answers = read_changed(path, &mut seen).unwrap().expect("a new file");
        assert_ne!(answers.tls["a.test"].cert, before);
        clear(path).unwrap();
        let answers = read_changed(path, &mut seen).unwrap().expect("no file");
        assert!(answers.http.is_empty() && answers.tls.is_empty());
    }

    #[test]
    fn a_token_is_no_path() {
        let folder = tempfile::tempdir().unwrap();
        for token in ["", "../a", "a/b", "a.b", "\0", &"a".repeat(201)] {
            write_http(folder.path(), token, "").unwrap_err();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
