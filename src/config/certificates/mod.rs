//! `certificates` of a listener: certificates with their keys, and directories of them.

mod directory;
mod ocsp;
mod renewal;

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use serde_json::json;
use webpki::EndEntityCert;

use super::acme::Acme;
use super::document::Node;
use super::environment::Environment;
use super::pem;
use super::schema::{Kind, List, Reader, Scalar, converted, file, list, map_of, section};

use ocsp::OcspProblem;

pub use ocsp::OcspResponse;
pub use renewal::Validity;

section! {
    /// The files of a certificate and its key, or a directory of such files.
    pub(super) struct CertificateEntry: Eq {
        /// The PEM file of the certificate chain, the server's own certificate first.
        certificate: Option<PathBuf> { pem_file(), alternative "/etc/ballast/example.com.pem" },
        /// The PEM file of the private key. Without it the key is in the file of the certificate.
        key: Option<PathBuf> { pem_file(), alternative "/etc/ballast/example.com.key" },
        /// A file of the certificate's OCSP response in DER form, as `openssl ocsp -respout FILE` writes it, for clients that ask
        /// for it in the handshake (stapling). It is read again when another program has renewed it, see
        /// server.certificate_check, and nothing is fetched from the authority. A response that has expired, is about another
        /// certificate or does not call it good is left out, with a warning.
        ocsp: Option<PathBuf> { path("the path of an OCSP response"), optional "/etc/ballast/example.com.ocsp" },
        /// A directory of certificates instead: NAME.pem or NAME.crt with the key in NAME.key or in the same file,
        /// NAME/fullchain.pem with NAME/privkey.pem as certbot writes them, NAME/tls.crt with NAME/tls.key as in Kubernetes.
        /// An OCSP response has the name of its certificate's file with the ending `.ocsp`.
        /// Files may come and go while the process runs. Of several certificates for a name, the one that expires last
        /// serves it; the first file in the order of names is for all other names. Hidden files and others are left out.
        directory: Option<PathBuf> { directory(), optional "/etc/ballast/certs" },
    }
    check one_source;
}

/// An entry of `certificates`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// A certificate and its key.
    Files(Certificate),
    /// The certificates in a directory.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Those in it, at least one, in the order of the files' names.
        certificates: Vec<Certificate>,
    },
    /// Certificates that are ordered by ACME.
    Ordered {
        /// The directory of their files.
        path: PathBuf,
        /// The names of the files, and of the certificates in them.
        domains: Arc<[String]>,
        /// Those that are there so far.
        certificates: Vec<Certificate>,
    },
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatePair {
    /// The PEM file of the chain, the server's own certificate first.
    pub chain_file: PathBuf,
    /// The PEM file of the private key, which may be the same.
    pub key_file: PathBuf,
    /// The DER file of the OCSP response.
    pub ocsp_file: Option<PathBuf>,
}

/// A certificate chain and its key, which fit each other. Two are equal if the files are the same, and the chain and the OCSP
/// response in them are.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// Where it was read.
    pub files: CertificatePair,
    /// The content of the files.
    pub certified: Arc<CertifiedKey>,
    /// The DNS names that it is for, in lower case; some begin with `*.`.
    pub names: Vec<String>,
    /// When clients accept it.
    pub validity: Validity,
    /// What its authority says about its revocation, or why there is nothing of that for clients. `None`: it has no such
    /// file.
    pub ocsp: Option<Result<OcspResponse, String>>,
}

/// What is wrong with a pair of files: the key of its entry, and the problem.
type PairProblem = (&'static str, String);

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
            && self.certified.cert == other.certified.cert
            && self.response() == other.response()
    }
}

impl Eq for Certificate {}

impl CertificateSource {
    /// Its certificates, in the order of the files' names. Only ordered ones may all be missing.
    pub fn certificates(&self) -> &[Certificate] {
        match self {
            CertificateSource::Files(certificate) => slice::from_ref(certificate),
            CertificateSource::Directory { certificates, .. }
            | CertificateSource::Ordered { certificates, .. } => certificates,
        }
    }

    /// The certificates that `acme` has ordered. Files that cannot be used are left out: they are ordered again.
    pub(super) fn ordered(acme: &Acme, environment: &dyn Environment) -> Self {
        let mut source = CertificateSource::Ordered {
            path: acme.certificates_directory(),
            domains: acme.domains.clone().into(),
            certificates: Vec::new(),
        };
        let pairs = source.pairs(environment).unwrap_or_default().into_iter();
        let read = pairs.filter_map(|files| Certificate::read(files, environment).ok());
        let read = Vec::from_iter(read);
        if let CertificateSource::Ordered { certificates, .. } = &mut source {
            *certificates = read;
        }
        source
    }

    /// Its certificates; of two for the same name the earlier one serves it. `now` is in Unix seconds.
    pub fn by_preference(&self, now: i64) -> Vec<&Certificate> {
        let mut certificates = Vec::from_iter(self.certificates());
        certificates.sort_by_key(|certificate| {
            let Validity { until, .. } = certificate.validity;
            Reverse((certificate.validity.includes(now), until))
        });
        certificates
    }

    /// The files that there are now.
    ///
    /// # Errors
    /// A directory that cannot be read, or has none.
    pub(crate) fn pairs(
        &self,
        environment: &dyn Environment,
    ) -> Result<Vec<CertificatePair>, String> {
        match self {
            CertificateSource::Files(certificate) => Ok(vec![certificate.files.clone()]),
            CertificateSource::Directory { path, .. } => directory::pairs(path, environment),
            CertificateSource::Ordered { path, domains, .. } => {
                Ok(directory::ordered(path, domains, environment))
            }
        }
    }

    /// The same source with other certificates. There has to be one, unless they are ordered.
    pub(crate) fn replaced(&self, certificates: Vec<Certificate>) -> Option<Self> {
        Some(match self {
            CertificateSource::Files(_) => {
                CertificateSource::Files(certificates.into_iter().next()?)
            }
            CertificateSource::Directory { path, .. } => CertificateSource::Directory {
                path: path.clone(),
                certificates: Some(certificates).filter(|them| !them.is_empty())?,
            },
            CertificateSource::Ordered { path, domains, .. } => CertificateSource::Ordered {
                path: path.clone(),
                domains: Arc::clone(domains),
                certificates,
            },
        })
    }
}

impl Certificate {
    /// Reads a pair of files.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn read(
        files: CertificatePair,
        environment: &dyn Environment,
    ) -> Result<Self, String> {
        load(files, environment).map_err(|problems| {
            let problems = Vec::from_iter(problems.into_iter().map(|(_, problem)| problem));
            problems.join("; ")
        })
    }

    /// What clients get that ask for an OCSP response, as long as it has not expired.
    pub fn response(&self) -> Option<&OcspResponse> {
        self.ocsp.as_ref()?.as_ref().ok()
    }

    /// Why clients get no OCSP response at this time although there is a file of one.
    pub(crate) fn ocsp_fault(&self, now: i64) -> Option<String> {
        match self.ocsp.as_ref()? {
            Ok(response) => response.date_fault(now),
            Err(reason) => Some(reason.clone()),
        }
    }

    /// Reads the file of the OCSP response.
    ///
    /// # Errors
    /// Why clients cannot get it now.
    pub(crate) fn read_response(
        &self,
        file: &Path,
        now: i64,
        environment: &dyn Environment,
    ) -> Result<OcspResponse, String> {
        let certificate = self.certified.cert.first();
        let certificate = certificate.ok_or("there is no certificate")?;
        let response = OcspResponse::read(file, certificate, environment);
        let response = response.map_err(|problem| problem.to_string())?;
        match response.date_fault(now) {
            None => Ok(response),
            Some(fault) => Err(fault),
        }
    }
}

fn load(
    files: CertificatePair,
    environment: &dyn Environment,
) -> Result<Certificate, Vec<PairProblem>> {
    let CertificatePair {
        chain_file,
        key_file,
        ..
    } = &files;
    let chain = pem::certificates(chain_file, environment);
    let keys = pem::private_keys(key_file, environment);
    let (chain, keys) = match (chain, keys) {
        (Ok(chain), Ok(keys)) => (chain, keys),
        (chain, keys) => {
            let of_chain = chain.err().map(|problem| ("certificate", problem));
            let of_key = keys.err().map(|problem| ("key", problem));
            return Err(of_chain.into_iter().chain(of_key).collect());
        }
    };
    let validity = Validity::of(&chain);
    let names = chain.first().map(names).unwrap_or_default();
    let ocsp = read_ocsp(&files, chain.first(), environment)?;
    let certified = pem::fitting(chain, keys).ok_or_else(Vec::new)?;
    pem::fit(&certified, chain_file, key_file).map_err(|problem| vec![("key", problem)])?;
    Ok(Certificate {
        files,
        certified: Arc::new(certified),
        names,
        validity,
        ocsp,
    })
}

/// The OCSP response of a certificate. One that is of no use to clients is no error: it may be renewed at any time.
fn read_ocsp(
    files: &CertificatePair,
    certificate: Option<&CertificateDer<'_>>,
    environment: &dyn Environment,
) -> Result<Option<Result<OcspResponse, String>>, Vec<PairProblem>> {
    let (Some(file), Some(certificate)) = (&files.ocsp_file, certificate) else {
        return Ok(None);
    };
    match OcspResponse::read(file, certificate, environment) {
        Ok(response) => Ok(Some(Ok(response))),
        Err(OcspProblem::Unusable(reason)) => Ok(Some(Err(reason))),
        Err(OcspProblem::NoResponse(problem)) => Err(vec![("ocsp", problem)]),
    }
}

/// The DNS names of a certificate.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let names = certificate.valid_dns_names();
    names
        .map(|name| name.trim_end_matches('.').to_ascii_lowercase())
        .collect()
}

/// The value of `certificates`.
pub(super) fn sources() -> List<impl Kind<Value = CertificateSource>> {
    let entry = converted(map_of::<CertificateEntry>(), read_source, entry);
    list("certificates", entry).or_single_map()
}

fn one_source(entry: &mut CertificateEntry, map: &Node, reader: &mut Reader<'_>) {
    let CertificateEntry {
        certificate,
        key,
        ocsp,
        directory,
    } = entry;
    if directory.is_some() && (certificate.is_some() || key.is_some() || ocsp.is_some()) {
        let message =
            "a directory has certificates and keys already; make two entries of a list of them";
        reader.problem_of_key(map, "directory", message);
    } else if directory.is_none() && certificate.is_none() {
        let message = "there is neither `certificate` nor `directory`; write this as in \
                       `{ certificate: /etc/ballast/example.com.pem, key: /etc/ballast/example.com.key }`";
        reader.problem(map, message);
    }
}

fn read_source(
    entry: CertificateEntry,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<CertificateSource> {
    if let Some(chain_file) = entry.certificate {
        let key_file = entry.key.unwrap_or_else(|| chain_file.clone());
        let files = CertificatePair {
            chain_file,
            key_file,
            ocsp_file: entry.ocsp,
        };
        let loaded = load(files, reader.environment);
        return loaded
            .map(CertificateSource::Files)
            .map_err(|problems| {
                for (key, problem) in problems {
                    reader.problem_of_key(node, key, problem);
                }
            })
            .ok();
    }
    let path = entry.directory?;
    let pairs = directory::pairs(&path, reader.environment);
    let pairs = pairs.map_err(|problem| reader.problem_of_key(node, "directory", problem));
    let mut certificates = Vec::new();
    for files in pairs.ok()? {
        match Certificate::read(files, reader.environment) {
            Ok(certificate) => certificates.push(certificate),
            Err(problem) => reader.problem_of_key(node, "directory", problem),
        }
    }
    Some(CertificateSource::Directory { path, certificates })
}

/// The entry that names a source.
fn entry(source: &CertificateSource) -> CertificateEntry {
    match source {
        CertificateSource::Files(certificate) => {
            let CertificatePair {
                chain_file,
                key_file,
                ocsp_file,
            } = &certificate.files;
            CertificateEntry {
                certificate: Some(chain_file.clone()),
                key: Some(key_file.clone()).filter(|key_file| key_file != chain_file),
                ocsp: ocsp_file.clone(),
                directory: None,
            }
        }
        CertificateSource::Directory { path, .. } | CertificateSource::Ordered { path, .. } => {
            CertificateEntry {
                certificate: None,
                key: None,
                ocsp: None,
                directory: Some(path.clone()),
            }
        }
    }
}

fn pem_file() -> Scalar<PathBuf> {
    path("the path of a PEM file")
}

fn directory() -> Scalar<PathBuf> {
    path("the path of a directory")
}

fn path(phrase: &'static str) -> Scalar<PathBuf> {
    file(phrase, |path, _| Ok(path), |path| json!(path))
}
