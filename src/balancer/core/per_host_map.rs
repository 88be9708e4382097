//! Typed ledgers by the identity of their host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::host::HostId;

/// Finds the ledger of a host again when it returns while requests from before still run on it: the ledger lives as
/// long as a slot of the host does, and a slot lives as long as a lease on it.
#[derive(Debug)]
pub(crate) struct PerHostMap<L>(Mutex<HashMap<HostId, Weak<L>>>);

impl<L> Default for PerHostMap<L> {
    fn default() -> Self {
        PerHostMap(Mutex::default())
    }
}

impl<L> PerHostMap<L> {
    /// The living ledger of `id`.
    pub(crate) fn find(&self, id: &HostId) -> Option<Arc<L>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)?
            .upgrade()
    }

    /// Remembers `ledger` as that of `id`, and forgets those that nobody holds any more.
    pub(crate) fn insert(&self, id: &HostId, per_host_state: &Arc<L>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Forgetting costs a pass, so it waits until half of a grown map may be dead.
        if known.len() == known.capacity() {
            known.retain(|_, per_host_state| per_host_state.strong_count() > 0);
        }
        known.insert(id.clone(), Arc::downgrade(per_host_state));
    }
}
