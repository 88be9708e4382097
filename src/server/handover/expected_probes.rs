//! Probes: connections by which a predecessor checks that its successor accepts. They are neither served nor counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::SocketAddrAny;

use super::probe_source::ProbeSource;

/// Bound of the expected probes; a predecessor sends fewer.
const MAX_PROBES: usize = 4096;

/// The probes that a predecessor has announced.
#[derive(Debug, Default)]
pub(in crate::server) struct ExpectedProbes {
    /// Whether any probe is expected; spares other connections the lock.
    has_any: AtomicBool,
    table: Mutex<ProbeTable>,
}

#[derive(Debug, Default)]
struct ProbeTable {
    expected: Vec<ProbeSource>,
    accepted: Vec<ProbeSource>,
}

impl ExpectedProbes {
    /// Expects one probe from each of these addresses.
    pub(super) fn expect(&self, from: &[ProbeSource]) {
        let mut table = self.table();
        table.expected.extend(from.iter().cloned());
        let surplus = table.expected.len().saturating_sub(MAX_PROBES);
        table.expected.drain(..surplus);
        self.has_any.store(true, Ordering::SeqCst);
    }

    /// Whether an accepted connection from `peer` is a probe; marks it as accepted.
    pub(in crate::server) fn is_probe(&self, peer: &SocketAddrAny) -> bool {
        if !self.has_any.load(Ordering::Relaxed) {
            return false;
        }
        let Some(peer) = ProbeSource::of_peer(peer) else {
            return false;
        };
        let mut table = self.table();
        let mut expected = table.expected.iter();
        let Some(index) = expected.position(|probe| probe.is_same(&peer)) else {
            return false;
        };
        table.expected.swap_remove(index);
        table.accepted.push(peer);
        true
    }

    /// Takes the probes accepted since the last call.
    pub(super) fn take_accepted(&self) -> Vec<ProbeSource> {
        std::mem::take(&mut self.table().accepted)
    }

    /// Ends the watch: no further probes are expected.
    pub(super) fn clear(&self) {
        self.has_any.store(false, Ordering::SeqCst);
        *self.table() = ProbeTable::default();
    }

    fn table(&self) -> MutexGuard<'_, ProbeTable> {
        // No update under this lock can be left half done, so a poisoned lock is usable.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rustix::net::SocketAddrUnix;

    use super::*;

    #[test]
    fn only_what_was_announced_is_a_probe_and_once() {
        let probes = ExpectedProbes::default();
        let source = |text: &str| ProbeSource::Inet(text.parse().unwrap());
        let is_probe = |text: &str| probes.is_probe(&text.parse::<SocketAddr>().unwrap().into());
        assert!(!is_probe("127.0.0.1:5"));
        probes.expect(&[source("127.0.0.1:5"), source("[::1]:6")]);
        assert!(!is_probe("127.0.0.2:5"));
        assert!(is_probe("[::1]:6"));
        assert!(!is_probe("[::1]:6"));
        assert_eq!(probes.take_accepted(), [source("[::1]:6")]);
        assert!(probes.take_accepted().is_empty());
        probes.clear();
        assert!(!is_probe("127.0.0.1:5"));
    }

    #[test]
    fn a_probe_of_a_unix_socket_has_a_name() {
        let probes = ExpectedProbes::default();
        let source = ProbeSource::new_unix();
        let address = source.abstract_address().unwrap().into();
        let unnamed = SocketAddrUnix::new_unnamed().into();
        probes.expect(std::slice::from_ref(&source));
        assert!(!probes.is_probe(&unnamed));
        assert!(probes.is_probe(&address));
        assert_eq!(probes.take_accepted(), [source]);
    }

    #[test]
    fn the_expected_ones_are_bounded() {
        let probes = ExpectedProbes::default();
        for port in 1..=u16::MAX {
            probes.expect(&[ProbeSource::Inet(([127, 0, 0, 1], port).into())]);
        }
        assert_eq!(probes.table().expected.len(), MAX_PROBES);
        let last = SocketAddr::from(([127, 0, 0, 1], 65_535));
        assert!(probes.is_probe(&last.into()));
    }
}
