//! A lease: one request counted on one host.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::host::Host;
use super::member::Member;

/// One request counted on one host. Dropping the lease ends the count, however the request ended.
#[must_use = "a lease that is dropped at once counts nothing"]
pub struct Lease(Arc<Member>);

impl Lease {
    /// A lease for a request that is already counted on `member`.
    pub(super) fn counted(member: Arc<Member>) -> Self {
        Lease(member)
    }

    /// The host that was picked.
    pub fn host(&self) -> &Arc<Host> {
        &self.0.host
    }

    /// Ends the lease and tells the outcome of the request, for the algorithms that use latency and success. If the client
    /// ended the request, drop the lease instead: that says nothing about the host.
    pub fn finish(self, outcome: Outcome) {
        self.0.observe(outcome);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease")
            .field(&self.0.host.id().as_str())
            .finish()
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The time until the host responded or failed.
    pub latency: Duration,
    /// Whether the host did what it was asked for.
    pub succeeded: bool,
}

impl Outcome {
    /// The host responded after `latency`.
    pub fn success(latency: Duration) -> Self {
        Outcome {
            latency,
            succeeded: true,
        }
    }

    /// The host failed after `latency`.
    pub fn failure(latency: Duration) -> Self {
        Outcome {
            latency,
            succeeded: false,
        }
    }
}
