//! What the session of an HTTP/2 stream and the connection to its host share of a tunnel.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The state of a tunnel. The task of the stream polls both of its users, so the atomics need no ordering.
#[derive(Debug, Default)]
pub(crate) struct TunnelState {
    /// How long one side may be silent once the other has ended, in microseconds. 0: not known yet.
    half_closed_timeout: AtomicU64,
    /// The number of bytes that the client has sent, plus 1, once it has ended its side. 0: it has not.
    client_end: AtomicU64,
}

impl TunnelState {
    /// Sets how long one side may be silent once the other has ended.
    pub(crate) fn set_half_closed_timeout(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        self.half_closed_timeout.store(limit, Ordering::Relaxed);
    }

    pub(crate) fn half_closed_timeout(&self) -> Option<Duration> {
        let limit = self.half_closed_timeout.load(Ordering::Relaxed);
        (limit > 0).then(|| Duration::from_micros(limit))
    }

    /// The client has ended its side after this number of bytes. Returns whether this is new.
    pub(crate) fn note_client_end(&self, bytes: usize) -> bool {
        self.client_end.swap(bytes as u64 + 1, Ordering::Relaxed) == 0
    }

    /// After how many bytes the client has ended its side. `None`: it has not.
    pub(crate) fn client_end(&self) -> Option<u64> {
        self.client_end.load(Ordering::Relaxed).checked_sub(1)
    }
}
