//! What operators see of ordered certificates.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// A certificate that is ordered by ACME.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeCertificate {
    /// The name that it is for.
    pub domain: String,
    /// The issuer of the certificate. `None`: no certificate has been issued.
    pub issuer: Option<String>,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// When it is to be renewed, if no attempt has failed.
    pub renewal: Option<Timestamp>,
    /// How many attempts to order it have failed since the last that succeeded.
    pub failures: u32,
    /// Why the last of them failed.
    pub last_error: Option<String>,
    /// When the next attempt after it is due.
    pub retry: Option<Timestamp>,
}

/// The status of all ordered certificates, in the order of the configuration.
#[derive(Debug, Default)]
pub struct AcmeStatus(ArcSwap<Vec<AcmeCertificate>>);

impl AcmeStatus {
    /// The current status; empty if none are ordered.
    pub fn certificates(&self) -> Arc<Vec<AcmeCertificate>> {
        self.0.load_full()
    }

    pub(super) fn replace(&self, certificates: Vec<AcmeCertificate>) {
        self.0.store(Arc::new(certificates));
    }
}
