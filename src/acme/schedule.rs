//! Which certificates are due, and what operators see of that.

use std::time::Duration;

use x509_parser::parse_x509_certificate;

use super::renewal::renewal_time;
use super::state_directory::DomainState;
use super::status::AcmeCertificate;
use crate::config::Certificate;
use crate::timestamp::Timestamp;

/// How often the directory is looked at for what other instances have done, in seconds.
const REVIEW: i64 = 60;

/// When the certificates of this process are renewed.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Differs from one process to the next.
    seed: u32,
}

impl Schedule {
    pub(super) fn new(seed: u32) -> Self {
        Schedule { seed }
    }

    /// Those of `found` that are to be ordered now. `is_urgent`: the configuration has changed since the last attempts.
    pub(super) fn due(&self, found: &[DomainState], now: i64, is_urgent: bool) -> Vec<DomainState> {
        let is_due = |found: &&DomainState| {
            let failure = found.failure.as_ref();
            let may_try = failure.is_none_or(|failure| failure.permits_attempt(now, is_urgent));
            may_try && self.due_time(found) <= now
        };
        found.iter().filter(is_due).cloned().collect()
    }

    /// The time until the next look at the directory: when something is due, or once a minute.
    pub(super) fn until_next_look(&self, found: &[DomainState], now: i64) -> Duration {
        let times = found.iter().map(|found| {
            let failure = found.failure.as_ref();
            let retry = failure.map_or(i64::MIN, |failure| failure.retry_at);
            self.due_time(found).max(retry)
        });
        let next = times.min().unwrap_or(i64::MAX);
        Duration::from_secs(next.saturating_sub(now).clamp(1, REVIEW) as u64)
    }

    /// What operators see.
    pub(super) fn status(&self, found: &DomainState) -> AcmeCertificate {
        let certificate = found.certificate.as_ref();
        let failure = found.failure.as_ref();
        let timestamp = Timestamp::from_unix_seconds;
        AcmeCertificate {
            domain: found.domain.clone(),
            issuer: certificate.and_then(issuer),
            expires: certificate.and_then(Certificate::expiry).map(timestamp),
            renewal: certificate.map(|_| timestamp(self.due_time(found))),
            failures: failure.map_or(0, |failure| failure.count),
            last_error: failure.map(|failure| failure.error.clone()),
            retry: failure.map(|failure| timestamp(failure.retry_at)),
        }
    }

    /// When the domain's certificate is to be renewed, as Unix time; in the past if it has no certificate.
    fn due_time(&self, found: &DomainState) -> i64 {
        let Some(certificate) = &found.certificate else {
            return i64::MIN;
        };
        let mut jitter = crc32fast::Hasher::new_with_initial(self.seed);
        jitter.update(found.domain.as_bytes());
        jitter.update(&certificate.validity.until.to_be_bytes());
        renewal_time(certificate.validity, jitter.finalize())
    }
}

/// Who has signed a certificate.
pub(super) fn issuer(certificate: &Certificate) -> Option<String> {
    let own = certificate.certified.cert.first()?;
    let (_, parsed) = parse_x509_certificate(own).ok()?;
    Some(parsed.issuer().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::failure::Failure;

    fn missing(failure: Option<Failure>) -> DomainState {
        DomainState {
            domain: "a.test".to_owned(),
            certificate: None,
            failure,
        }
    }

    #[test]
    fn a_missing_certificate_is_due_unless_an_attempt_has_just_failed() {
        let schedule = Schedule::new(7);
        let due = |found: &DomainState, now, is_urgent| {
            !schedule
                .due(std::slice::from_ref(found), now, is_urgent)
                .is_empty()
        };
        assert!(due(&missing(None), 1_000, false));
        let wait = |found: &[DomainState], now| schedule.until_next_look(found, now).as_secs();
        assert_eq!(wait(&[missing(None)], 1_000), 1);
        let failure = Failure::after(None, "error".to_owned(), None, 1_000, 0);
        let retry_at = failure.retry_at;
        let failed = missing(Some(failure));
        assert!(!due(&failed, retry_at - 1, false) && due(&failed, retry_at, false));
        assert!(due(&failed, 1_001, true));
        let left = (retry_at - 1_000) as u64;
        assert_eq!(wait(std::slice::from_ref(&failed), 1_000), left.min(60));
        assert_eq!(wait(&[failed], 0), 60);
        assert_eq!(wait(&[], 0), 60);
    }
}
