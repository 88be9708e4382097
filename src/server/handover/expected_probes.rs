//! Probes: connections by which a predecessor checks that its successor accepts. They are neither served nor counted.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    expected: Vec<(IpAddr, u16)>,
    accepted: Vec<SocketAddr>,
}

impl ExpectedProbes {
    /// Expects one probe from each of these addresses.
    pub(super) fn expect(&self, from: &[SocketAddr]) {
        let mut table = self.table();
        table.expected.extend(from.iter().map(probe_key));
        let surplus = table.expected.len().saturating_sub(MAX_PROBES);
        table.expected.drain(..surplus);
        self.has_any.store(true, Ordering::SeqCst);
    }

    /// Whether an accepted connection from `peer` is a probe; marks it as accepted.
    pub(in crate::server) fn is_probe(&self, peer: &SocketAddr) -> bool {
        if !self.has_any.load(Ordering::Relaxed) {
            return false;
        }
        let mut table = self.table();
        let expected = table.expected.iter();
        let Some(index) = expected.clone().position(|probe| *probe == probe_key(peer)) else {
            return false;
        };
        table.expected.swap_remove(index);
        table.accepted.push(*peer);
        true
    }

    /// Takes the probes accepted since the last call.
    pub(super) fn take_accepted(&self) -> Vec<SocketAddr> {
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

/// The part of an address on which both ends agree: the scope of an IPv6 address may differ.
fn probe_key(address: &SocketAddr) -> (IpAddr, u16) {
    (address.ip(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_announced_is_a_probe_and_once() {
        let probes = ExpectedProbes::default();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(!probes.is_probe(&at("127.0.0.1:5")));
        probes.expect(&[at("127.0.0.1:5"), at("[::1]:6")]);
        assert!(!probes.is_probe(&at("127.0.0.2:5")));
        assert!(probes.is_probe(&at("[::1]:6")));
        assert!(!probes.is_probe(&at("[::1]:6")));
        assert_eq!(probes.take_accepted(), [at("[::1]:6")]);
        assert!(probes.take_accepted().is_empty());
        probes.clear();
        assert!(!probes.is_probe(&at("127.0.0.1:5")));
    }

    #[test]
    fn the_expected_ones_are_bounded() {
        let probes = ExpectedProbes::default();
        for port in 1..=u16::MAX {
            probes.expect(&[SocketAddr::new([127, 0, 0, 1].into(), port)]);
        }
        assert_eq!(probes.table().expected.len(), MAX_PROBES);
        assert!(probes.is_probe(&"127.0.0.1:65535".parse().unwrap()));
    }
}
