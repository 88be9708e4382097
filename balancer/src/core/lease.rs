//! A lease: one request counted on one host.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::host::Host;
use super::slot::Slot;

/// One request counted on one host. Dropping the lease ends the count, however the request ended.
#[must_use = "a lease that is dropped at once counts nothing"]
pub struct Lease(Arc<Slot>);

impl Lease {
    /// A lease for a request that is already counted on `slot`.
    pub(crate) fn counted(slot: Arc<Slot>) -> Self {
        Lease(slot)
    }

    /// The host that was picked.
    pub fn host(&self) -> &Arc<Host> {
        &self.0.host
    }

    /// Reports the outcome, for the algorithms that use latency and success. Do not call it if the client ended the
    /// request.
    pub fn observe(&self, latency: Duration, succeeded: bool) {
        self.0.observe(latency, succeeded);
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
