//! Warnings about certificates that can serve but should be replaced: expired, not valid yet, or out of order.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;

use super::listener::Certificate;
use super::root::Config;
use crate::timestamp::Timestamp;

impl Config {
    /// One line for each certificate that has expired or is not valid yet, and for each chain that is out of order.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings_at(Timestamp::now().unix_seconds() as i64)
    }

    fn warnings_at(&self, now: i64) -> Vec<String> {
        let mut warnings = Vec::new();
        for (number, listener) in self.listeners.iter().enumerate() {
            let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
            for (index, certificate) in certificates.enumerate() {
                let place = format!("listeners[{number}].tls.certificates[{index}].certificate");
                let chain = &certificate.certified.cert;
                let file = &certificate.chain_file;
                let told = chain_warnings(chain, file, now).into_iter();
                warnings.extend(told.map(|text| format!("{place}: {text}")));
            }
        }
        for pool in &self.pools {
            let authorities = pool.tls.iter().filter_map(|tls| tls.ca.as_ref());
            for authorities in authorities {
                let place = format!("pools.{}.tls.ca", pool.name);
                let certificates = &authorities.certificates;
                let told = date_warnings(certificates, &authorities.file, now).into_iter();
                warnings.extend(told.map(|text| format!("{place}: {text}")));
            }
        }
        warnings
    }

    /// The files of the listeners' certificates, each with the Unix time at which the first certificate of its chain
    /// expires.
    pub fn certificate_expiries(&self) -> Vec<(PathBuf, i64)> {
        let listeners = self.listeners.iter();
        let certificates = listeners
            .filter_map(|listener| listener.tls.as_ref())
            .flat_map(|tls| &tls.certificates);
        let mut expiries: Vec<(PathBuf, i64)> = Vec::new();
        for certificate in certificates {
            let is_known = expiries
                .iter()
                .any(|(file, _)| *file == certificate.chain_file);
            if !is_known && let Some(expiry) = certificate.expiry() {
                expiries.push((certificate.chain_file.clone(), expiry));
            }
        }
        expiries
    }
}

impl Certificate {
    /// The Unix time at which the first certificate of the chain expires, after which clients refuse it.
    pub fn expiry(&self) -> Option<i64> {
        let chain = self.certified.cert.iter().filter_map(parsed);
        chain
            .map(|certificate| certificate.validity.not_after.timestamp())
            .min()
    }
}

fn chain_warnings(chain: &[CertificateDer<'_>], file: &Path, now: i64) -> Vec<String> {
    let mut warnings = date_warnings(chain, file, now);
    let parsed = Vec::from_iter(chain.iter().map(parsed));
    for (index, pair) in parsed.windows(2).enumerate() {
        let [Some(certificate), Some(next)] = pair else {
            continue;
        };
        if certificate.issuer != next.subject {
            let (number, next_number) = (index + 1, index + 2);
            warnings.push(format!(
                "the chain in `{}` is out of order: certificate {next_number} ({}) has not signed certificate {number}, \
                 whose issuer is {}",
                file.display(),
                next.subject,
                certificate.issuer
            ));
        }
    }
    warnings
}

fn date_warnings(certificates: &[CertificateDer<'_>], file: &Path, now: i64) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, der) in certificates.iter().enumerate() {
        let Some(certificate) = parsed(der) else {
            continue;
        };
        let validity = &certificate.validity;
        let (from, until) = (
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
        );
        let fault = if now > until {
            format!("expired at {}", date(until))
        } else if now < from {
            format!("is not valid before {}", date(from))
        } else {
            continue;
        };
        let number = match certificates.len() {
            1 => String::new(),
            _ => format!(" {}", index + 1),
        };
        warnings.push(format!(
            "certificate{number} in `{}` ({}) {fault}",
            file.display(),
            certificate.subject
        ));
    }
    warnings
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    Some(certificate)
}

fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}
