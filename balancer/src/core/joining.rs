//! A host as it joins a balancer.

use std::sync::Arc;
use std::time::Duration;

use super::host::Host;

/// A host for [`Balancer::set_hosts`](crate::Balancer::set_hosts).
#[derive(Debug, Clone)]
#[must_use]
pub struct Joining {
    pub(super) host: Arc<Host>,
    pub(super) slow_start: Option<Duration>,
}

impl Joining {
    /// Puts the host into slow start as if that had begun `elapsed` ago, also if it is a member already. Otherwise a member
    /// keeps the slow start that it is in, and a host that joins has none.
    pub fn slow_start(self, elapsed: Duration) -> Self {
        Joining {
            slow_start: Some(elapsed),
            ..self
        }
    }
}

impl From<Arc<Host>> for Joining {
    fn from(host: Arc<Host>) -> Self {
        Joining {
            host,
            slow_start: None,
        }
    }
}
