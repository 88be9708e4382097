//! The answers to the challenges by which authorities have domains proven to them (ACME, RFC 8555 8).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use rustls::sign::CertifiedKey;

/// The answers to the challenges that are pending, for requests and handshakes.
#[derive(Debug, Default)]
pub(crate) struct AcmeChallenges {
    /// All that a request looks at while no challenge is pending. Relaxed, since an authority asks only long after the
    /// answer is there.
    are_pending: AtomicBool,
    answers: ArcSwap<ChallengeAnswers>,
}

/// Answers.
#[derive(Default)]
pub(crate) struct ChallengeAnswers {
    /// The key authorizations of `http-01`, by token.
    pub(crate) http: HashMap<String, Bytes>,
    /// The certificates of `tls-alpn-01`, by domain.
    pub(crate) tls: HashMap<String, Arc<CertifiedKey>>,
}

impl fmt::Debug for ChallengeAnswers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the keys.
        f.debug_struct("ChallengeAnswers")
            .field("http", &self.http.len())
            .field("tls", &self.tls.len())
            .finish()
    }
}

impl AcmeChallenges {
    /// Gives these answers from now on, and no others.
    pub(crate) fn replace(&self, answers: ChallengeAnswers) {
        let are_pending = !answers.http.is_empty() || !answers.tls.is_empty();
        self.answers.store(Arc::new(answers));
        self.are_pending.store(are_pending, Ordering::Relaxed);
    }

    /// Whether any challenge is pending.
    pub(crate) fn are_pending(&self) -> bool {
        self.are_pending.load(Ordering::Relaxed)
    }

    /// The body of the response to `http-01` with this token.
    pub(crate) fn key_authorization(&self, token: &str) -> Option<Bytes> {
        self.answers.load().http.get(token).cloned()
    }

    /// The certificate that answers `tls-alpn-01` for this domain, in lower case.
    pub(crate) fn certificate(&self, domain: &str) -> Option<Arc<CertifiedKey>> {
        self.answers.load().tls.get(domain).cloned()
    }
}
