//! Whether a certificate that was read while another one serves may take its place.

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;

use super::Certificate;
use crate::config::warnings::{date_faults, order_faults, parsed};

/// The time for which a chain is valid, in Unix seconds, both included: that of all its certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The latest beginning.
    pub from: i64,
    /// The earliest end.
    pub until: i64,
}

impl Validity {
    /// That of a chain. A certificate whose dates cannot be read limits nothing.
    pub(crate) fn of(chain: &[CertificateDer<'_>]) -> Self {
        let mut validity = Validity {
            from: i64::MIN,
            until: i64::MAX,
        };
        for certificate in chain.iter().filter_map(parsed) {
            let dates = &certificate.validity;
            validity.from = validity.from.max(dates.not_before.timestamp());
            validity.until = validity.until.min(dates.not_after.timestamp());
        }
        validity
    }

    /// Whether the chain is valid then.
    pub fn includes(self, at: i64) -> bool {
        (self.from..=self.until).contains(&at)
    }
}

impl Certificate {
    /// Whether this certificate may replace `old`, or be added if `old` is `None`. Faults that the old one has as well
    /// are no reason against it.
    ///
    /// # Errors
    /// The reason against it, for a person.
    pub(crate) fn may_replace(&self, old: Option<&Certificate>, now: i64) -> Result<(), String> {
        let (chain, file) = (&self.certified.cert, &self.files.chain_file);
        let is_better =
            |has_faults: &dyn Fn(&Certificate) -> bool| old.is_none_or(|old| !has_faults(old));
        let faults = date_faults(chain, file, now);
        if !faults.is_empty() && is_better(&|old| !old.validity.includes(now)) {
            return Err(faults.join("; "));
        }
        let faults = order_faults(chain, file);
        let old_faults = |old: &Certificate| !order_faults(&old.certified.cert, file).is_empty();
        if !faults.is_empty() && is_better(&old_faults) {
            return Err(faults.join("; "));
        }
        match old.and_then(|old| missing_issuer(chain, &old.certified.cert)) {
            Some(issuer) => Err(format!(
                "the chain in `{}` is not whole: the certificate of {issuer}, which the chain before had, is missing",
                file.display()
            )),
            None => Ok(()),
        }
    }
}

/// The issuer of the last certificate of `chain`, if `old` had its certificate as an intermediate: without it most clients
/// could not verify the chain. A root, which is its own issuer, may be left out.
fn missing_issuer(chain: &[CertificateDer<'_>], old: &[CertificateDer<'_>]) -> Option<String> {
    let last = parsed(chain.last()?)?;
    let mut before = old.iter().skip(1).filter_map(parsed);
    let issuer = before.find(|certificate| certificate.subject == last.issuer)?;
    let is_root = |certificate: &X509Certificate<'_>| certificate.subject == certificate.issuer;
    (!is_root(&last) && !is_root(&issuer)).then(|| issuer.subject.to_string())
}
