//! A map from host identity to an algorithm's per-host state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::host::HostId;

/// Finds the state of a host again if the host returns while earlier requests are still in flight: the state lives as
/// long as a slot of the host does, and a slot lives as long as a lease on it.
#[derive(Debug)]
pub(crate) struct PerHostMap<L>(Mutex<HashMap<HostId, Weak<L>>>);

impl<L> Default for PerHostMap<L> {
    fn default() -> Self {
        PerHostMap(Mutex::default())
    }
}

impl<L> PerHostMap<L> {
    /// The state of `id`, if it is alive.
    pub(crate) fn find(&self, id: &HostId) -> Option<Arc<L>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)?
            .upgrade()
    }

    /// Remembers the state of `id`, and drops entries whose state is dead.
    pub(crate) fn insert(&self, id: &HostId, per_host_state: &Arc<L>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropping takes a full pass, so it waits until the map is about to grow.
        if known.len() == known.capacity() {
            known.retain(|_, per_host_state| per_host_state.strong_count() > 0);
        }
        known.insert(id.clone(), Arc::downgrade(per_host_state));
    }
}
