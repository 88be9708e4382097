//! Warnings about certificates that can serve but should be replaced: expired or about to be, not valid yet, out of order,
//! or in the shade of another one.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::parse_x509_certificate;

use super::certificates::{Certificate, CertificateSource, Validity};
use super::root::Config;
use crate::timestamp::Timestamp;

const DAY: i64 = 24 * 60 * 60;

/// How long before its end a certificate should have been replaced.
const RENEWAL: i64 = 14 * DAY;

/// Names that a line lists.
const MAX_NAMES: usize = 5;

impl Config {
    /// One line for each certificate that has expired or is about to, or is not valid yet, for each chain that is out of
    /// order, and for certificates in a directory that are for the same name.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings_at(Timestamp::now().unix_seconds() as i64)
    }

    fn warnings_at(&self, now: i64) -> Vec<String> {
        let mut warnings = Vec::new();
        for (number, listener) in self.listeners.iter().enumerate() {
            let sources = listener.tls.iter().flat_map(|tls| &tls.certificates);
            for (index, source) in sources.enumerate() {
                let place = format!("listeners[{number}].tls.certificates[{index}]");
                let told = source.warnings(now).into_iter();
                warnings.extend(told.map(|(key, text)| format!("{place}.{key}: {text}")));
            }
        }
        let listeners = self.listeners.iter().enumerate();
        let of_clients = listeners.filter_map(|(number, listener)| {
            let clients = listener.tls.as_ref()?.client_certificates.as_ref()?;
            let place = format!("listeners[{number}].tls.client_certificates.ca");
            Some((place, &clients.ca))
        });
        let of_hosts = self.pools.iter().filter_map(|pool| {
            let authorities = pool.tls.as_ref()?.ca.as_ref()?;
            Some((format!("pools.{}.tls.ca", pool.name), authorities))
        });
        let authorities = of_clients.chain(of_hosts);
        let authorities = authorities.map(|(place, of)| (place, &of.certificates, &of.file));
        let shown = self.pools.iter().filter_map(|pool| {
            let shown = pool.tls.as_ref()?.certificate.as_ref()?;
            let place = format!("pools.{}.tls.certificate", pool.name);
            Some((place, &shown.chain, &shown.file))
        });
        for (place, certificates, file) in authorities.chain(shown) {
            let mut told = date_faults(certificates, file, now);
            told.extend(near_ends(certificates, file, now));
            warnings.extend(told.into_iter().map(|text| format!("{place}: {text}")));
        }
        for (number, listener) in self.listeners.iter().enumerate() {
            let clients = listener.tls.as_ref();
            let clients = clients.and_then(|tls| tls.client_certificates.as_ref());
            let crl = clients.and_then(|clients| clients.crl.as_ref());
            let told = crl.map(|crl| crl.expired(now)).unwrap_or_default();
            let place = format!("listeners[{number}].tls.client_certificates.crl");
            warnings.extend(told.into_iter().map(|text| format!("{place}: {text}")));
        }
        warnings
    }

    /// The listeners' certificates, each file once.
    pub fn certificates(&self) -> Vec<&Certificate> {
        let listeners = self.listeners.iter();
        let certificates = listeners
            .filter_map(|listener| listener.tls.as_ref())
            .flat_map(|tls| tls.all_certificates());
        let mut files = HashSet::new();
        certificates
            .filter(|certificate| files.insert(&certificate.files.chain_file))
            .collect()
    }
}

impl CertificateSource {
    /// Lines about its certificates, each with the key that it concerns.
    fn warnings(&self, now: i64) -> Vec<(&'static str, String)> {
        let key = match self {
            CertificateSource::Files(_) => "certificate",
            CertificateSource::Directory { .. } | CertificateSource::Ordered { .. } => "directory",
        };
        let mut warnings = Vec::new();
        for certificate in self.certificates() {
            let (chain, file) = (&certificate.certified.cert, &certificate.files.chain_file);
            warnings.extend(date_faults(chain, file, now));
            warnings.extend(near_ends(chain, file, now));
            warnings.extend(order_faults(chain, file));
        }
        warnings.extend(self.duplicates(now));
        let key_of_ocsp = match self {
            CertificateSource::Files(_) => "ocsp",
            CertificateSource::Directory { .. } | CertificateSource::Ordered { .. } => key,
        };
        let faults = self.certificates().iter();
        let faults = faults.filter_map(|certificate| certificate.ocsp_fault(now));
        let faults = faults.map(|text| (key_of_ocsp, text));
        let warnings = warnings.into_iter().map(|text| (key, text));
        warnings.chain(faults).collect()
    }

    /// One line for each certificate that is not used for all of its names, because another one is for these as well.
    pub(crate) fn duplicates(&self, now: i64) -> Vec<String> {
        let mut serving: HashMap<&str, &Path> = HashMap::new();
        let mut lines = Vec::new();
        for certificate in self.by_preference(now) {
            let file = certificate.files.chain_file.as_path();
            let mut shared: Option<(&Path, &str)> = None;
            for name in &certificate.names {
                match serving.get(name.as_str()) {
                    // Some certificates name a host twice.
                    Some(other) if *other != file => {
                        shared.get_or_insert((other, name));
                    }
                    _ => {
                        serving.insert(name, file);
                    }
                }
            }
            if let Some((other, name)) = shared {
                lines.push(format!(
                    "`{}` is for {name} as `{}` is, which serves it because it is valid for longer",
                    file.display(),
                    other.display()
                ));
            }
        }
        lines
    }
}

impl Certificate {
    /// The Unix time at which the first certificate of the chain expires, after which clients refuse it; `None` if no date
    /// in it can be read.
    pub fn expiry(&self) -> Option<i64> {
        Some(self.validity.until).filter(|until| *until < i64::MAX)
    }

    /// The distinguished name of its authority; `None` if it cannot be read.
    pub fn issuer(&self) -> Option<String> {
        let certificate = parsed(self.certified.cert.first()?)?;
        Some(certificate.issuer.to_string())
    }

    /// What it is for and how long, for a line in the log.
    pub(crate) fn describe(&self) -> String {
        let file = self.files.chain_file.display();
        let mut names = self
            .names
            .iter()
            .take(MAX_NAMES)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        if self.names.len() > MAX_NAMES {
            names += &format!(" and {} more", self.names.len() - MAX_NAMES);
        }
        let names = if names.is_empty() { "no name" } else { &names };
        match self.expiry() {
            Some(expiry) => format!("`{file}` for {names}, expires at {}", date(expiry)),
            None => format!("`{file}` for {names}"),
        }
    }

    /// What has to be said at `now` and did not at `before`, because the certificate is about to expire or has expired.
    pub(crate) fn new_warnings(&self, before: i64, now: i64) -> Vec<String> {
        let Validity { from, until } = self.validity;
        if from <= before && until.saturating_sub(now) >= RENEWAL {
            return Vec::new();
        }
        new_date_warnings(&self.certified.cert, &self.files.chain_file, before, now)
    }
}

/// What has to be said of a chain at `now` and did not at `before`, because it is about to expire or has expired.
pub(super) fn new_date_warnings(
    chain: &[CertificateDer<'_>],
    file: &Path,
    before: i64,
    now: i64,
) -> Vec<String> {
    let faults = |at| (date_faults(chain, file, at), near_ends(chain, file, at));
    let ((earlier_faults, earlier_ends), (mut faults, ends)) = (faults(before), faults(now));
    faults.retain(|line| !earlier_faults.contains(line));
    if earlier_ends.is_empty() {
        faults.extend(ends);
    }
    faults
}

/// One line for each certificate of a chain that has expired, or is not valid yet.
pub(super) fn date_faults(chain: &[CertificateDer<'_>], file: &Path, now: i64) -> Vec<String> {
    lines(chain, file, |Validity { from, until }| {
        if now > until {
            Some(format!("expired at {}", date(until)))
        } else if now < from {
            Some(format!("is not valid before {}", date(from)))
        } else {
            None
        }
    })
}

/// One line for each certificate of a chain that expires soon. What lives for a few days anyway is not late before the last
/// third of that.
fn near_ends(chain: &[CertificateDer<'_>], file: &Path, now: i64) -> Vec<String> {
    lines(chain, file, |Validity { from, until }| {
        let left = until.saturating_sub(now);
        let is_near = left < RENEWAL.min(until.saturating_sub(from) / 3);
        (is_near && left >= 0 && now >= from).then(|| {
            let left = match left / DAY {
                0 => "less than a day".to_owned(),
                1 => "1 day".to_owned(),
                days => format!("{days} days"),
            };
            format!("expires in {left}, at {}", date(until))
        })
    })
}

/// A line for each certificate of a chain with a fault by its dates.
fn lines(
    chain: &[CertificateDer<'_>],
    file: &Path,
    fault: impl Fn(Validity) -> Option<String>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, der) in chain.iter().enumerate() {
        let Some(certificate) = parsed(der) else {
            continue;
        };
        let dates = &certificate.validity;
        let validity = Validity {
            from: dates.not_before.timestamp(),
            until: dates.not_after.timestamp(),
        };
        let Some(fault) = fault(validity) else {
            continue;
        };
        let number = match chain.len() {
            1 => String::new(),
            _ => format!(" {}", index + 1),
        };
        lines.push(format!(
            "certificate{number} in `{}` ({}) {fault}",
            file.display(),
            certificate.subject
        ));
    }
    lines
}

/// One line for each certificate of a chain that the next one has not signed.
pub(super) fn order_faults(chain: &[CertificateDer<'_>], file: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let parsed = Vec::from_iter(chain.iter().map(parsed));
    for (index, pair) in parsed.windows(2).enumerate() {
        let [Some(certificate), Some(next)] = pair else {
            continue;
        };
        if certificate.issuer != next.subject {
            let (number, next_number) = (index + 1, index + 2);
            faults.push(format!(
                "the chain in `{}` is out of order: certificate {next_number} ({}) has not signed certificate {number}, \
                 whose issuer is {}",
                file.display(),
                next.subject,
                certificate.issuer
            ));
        }
    }
    faults
}

/// A certificate whose dates and names can be read.
pub(super) fn parsed<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (_, certificate) = parse_x509_certificate(der).ok()?;
    Some(certificate)
}

pub(super) fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rustls::crypto::ring::sign::any_supported_type;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::sign::CertifiedKey;

    use super::*;
    use crate::config::CertificatePair;

    const FILE: &str = "a.pem";

    /// A certificate that is valid between these dates.
    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> Certificate {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        let key = KeyPair::generate().unwrap();
        let chain = vec![params.self_signed(&key).unwrap().der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let file = PathBuf::from(FILE);
        Certificate {
            files: CertificatePair {
                chain_file: file.clone(),
                key_file: file,
                ocsp_file: None,
            },
            validity: Validity::of(&chain),
            certified: Arc::new(CertifiedKey::new(chain, any_supported_type(&key).unwrap())),
            names: Vec::new(),
            ocsp: None,
        }
    }

    #[test]
    fn an_end_is_near_within_two_weeks_or_a_third_of_a_short_life() {
        let file = Path::new(FILE);
        let told = |it: &Certificate, at| near_ends(&it.certified.cert, file, at).concat();
        let long = certificate((2030, 1, 1), (2031, 1, 1));
        let Validity { from, until } = long.validity;
        assert_eq!(told(&long, until - 14 * DAY), "");
        let line = told(&long, until - 14 * DAY + 1);
        assert!(
            line.ends_with("expires in 13 days, at 2031-01-01T00:00:00Z"),
            "{line}"
        );
        assert!(told(&long, until - 2 * DAY + 1).contains("in 1 day,"));
        assert!(told(&long, until - 3600).contains("in less than a day,"));
        assert_eq!(
            told(&long, until + 1),
            "",
            "it has expired, which another line says"
        );
        assert_eq!(told(&long, from - 1), "");
        let short = certificate((2030, 1, 1), (2030, 1, 7));
        let Validity { until, .. } = short.validity;
        assert_eq!(told(&short, until - 2 * DAY), "");
        assert!(told(&short, until - 2 * DAY + 1).contains("in 1 day,"));
    }

    #[test]
    fn dates_are_inclusive() {
        let certificate = certificate((2030, 1, 1), (2031, 1, 1));
        let (chain, validity) = (&certificate.certified.cert, certificate.validity);
        let faults = |at| date_faults(chain, Path::new(FILE), at).len();
        let Validity { from, until } = validity;
        assert_eq!([from - 1, from, until, until + 1].map(faults), [1, 0, 0, 1]);
        let within = [from - 1, from, until, until + 1].map(|at| validity.includes(at));
        assert_eq!(within, [false, true, true, false]);
    }

    #[test]
    fn a_process_that_runs_warns_once_of_each_change() {
        let certificate = certificate((2030, 1, 1), (2031, 1, 1));
        let Validity { from, until } = certificate.validity;
        let told = |before, now| certificate.new_warnings(before, now).len();
        assert_eq!(told(from, from + DAY), 0);
        assert_eq!(told(until - 14 * DAY, until - 13 * DAY), 1);
        assert_eq!(told(until - 13 * DAY, until - 12 * DAY), 0);
        assert_eq!(told(until - 1, until + 1), 1, "it has expired");
        assert_eq!(told(until + 1, until + DAY), 0);
        assert_eq!(told(from - DAY, from), 0);
    }
}
