//! Which files of a directory are certificates, and where their keys are.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::CertificatePair;
use crate::config::environment::Environment;

/// Far more than one process serves; a wrong directory is an error before all of it is read.
const MAX_CERTIFICATES: usize = 10_000;

/// How the names of files with certificates end.
const EXTENSIONS: [&str; 2] = ["pem", "crt"];

/// Files of a certificate and its key that have a directory of their own: certbot's, and those of a Secret in Kubernetes.
const NESTED: [(&str, &str); 2] = [("fullchain.pem", "privkey.pem"), ("tls.crt", "tls.key")];

/// The pairs of files in a directory, at least one, in the order of their names.
pub(super) fn pairs(
    directory: &Path,
    environment: &dyn Environment,
) -> Result<Vec<CertificatePair>, String> {
    let shown = directory.display();
    let names = visible(directory, environment)
        .map_err(|error| format!("cannot read the directory `{shown}`: {error}"))?;
    let mut pairs = Vec::new();
    for name in &names {
        match is_certificate(name) {
            true => pairs.push(pair(directory, name, &names)),
            false => pairs.extend(nested(&directory.join(name), environment)),
        }
        if pairs.len() > MAX_CERTIFICATES {
            return Err(format!(
                "there are more than {MAX_CERTIFICATES} certificates in `{shown}`"
            ));
        }
    }
    match pairs.is_empty() {
        true => Err(format!(
            "there is no certificate in `{shown}`; it needs NAME.pem or NAME.crt with NAME.key, or NAME/fullchain.pem \
             with NAME/privkey.pem"
        )),
        false => Ok(pairs),
    }
}

/// The files of ordered certificates that are there, each with its key, in the order of `domains`. None if the directory
/// cannot be read.
pub(super) fn ordered(
    directory: &Path,
    domains: &[String],
    environment: &dyn Environment,
) -> Vec<CertificatePair> {
    let names = visible(directory, environment).unwrap_or_default();
    let files = domains.iter().map(|domain| format!("{domain}.pem"));
    let there = files.filter(|file| names.contains(OsStr::new(file)));
    let pairs = there.map(|file| {
        let path = directory.join(file);
        CertificatePair {
            chain_file: path.clone(),
            key_file: path,
            ocsp_file: None,
        }
    });
    pairs.collect()
}

fn is_certificate(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

/// A certificate of this name, and the key beside it or in it.
fn pair(directory: &Path, name: &OsStr, names: &BTreeSet<OsString>) -> CertificatePair {
    let key = Path::new(name).with_extension("key");
    let key = match names.contains(key.as_os_str()) {
        true => key.as_os_str(),
        false => name,
    };
    CertificatePair {
        chain_file: directory.join(name),
        key_file: directory.join(key),
        ocsp_file: ocsp_file(directory, name, names),
    }
}

/// The OCSP response beside a certificate of this name.
fn ocsp_file(directory: &Path, name: &OsStr, names: &BTreeSet<OsString>) -> Option<PathBuf> {
    let file = Path::new(name).with_extension("ocsp");
    names
        .contains(file.as_os_str())
        .then(|| directory.join(file))
}

/// The pair in a directory of its own.
fn nested(directory: &Path, environment: &dyn Environment) -> Option<CertificatePair> {
    // What is no directory cannot be listed.
    let names = visible(directory, environment).ok()?;
    let has = |name: &str| names.contains(OsStr::new(name));
    let mut known = NESTED.iter();
    let (chain, key) = known.find(|(chain, key)| has(chain) && has(key))?;
    Some(CertificatePair {
        chain_file: directory.join(chain),
        key_file: directory.join(key),
        ocsp_file: ocsp_file(directory, OsStr::new(chain), &names),
    })
}

/// The names in a directory but hidden ones, such as the copies that Kubernetes links to.
fn visible(directory: &Path, environment: &dyn Environment) -> std::io::Result<BTreeSet<OsString>> {
    let names = environment.list(directory)?.into_iter();
    let is_visible = |name: &OsString| !name.as_encoded_bytes().starts_with(b".");
    Ok(names.filter(is_visible).collect())
}
