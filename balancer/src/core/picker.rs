//! The interface of an algorithm to the balancer: it builds a picker for a set of hosts, which picks one of them.

use std::fmt::Debug;
use std::sync::Arc;

use super::cursor::Cursor;
use super::dry_run::DryRun;
use super::host::Host;
use super::pick_request::PickRequest;
use super::slot::{PerHostState, Slot};
use super::trace::{NoTrace, PickTrace};

/// An algorithm with its options and the state that it carries from one membership to the next.
///
/// All methods are called by one thread at a time, off the request path.
pub(crate) trait Algorithm: Debug + Send + Sync {
    /// Builds the picker for `slots` (each of a weight above 0). Called once per change of the membership.
    fn build_picker(&self, slots: &Arc<[Arc<Slot>]>) -> Box<dyn DynPicker>;

    /// The algorithm's state for one host, if it needs any. Called when the host joins.
    fn per_host_state(&self, _host: &Arc<Host>) -> Option<Arc<dyn PerHostState>> {
        None
    }

    /// The position in the cycle of the newest picker; `None` if hosts take no turns.
    fn cursor(&self) -> Option<Cursor> {
        None
    }

    /// Whether hosts may be in slow start. Algorithms that map keys to hosts do not allow it.
    fn starts_slowly(&self) -> bool {
        true
    }

    /// Makes the next picker start at `cursor`, if its host is in the newest one.
    fn seek(&self, _cursor: &Cursor) {}
}

/// Picks hosts for one set of members. Positions are those of the slice given to [`Algorithm::build_picker`], which is
/// never empty.
///
/// Called by many threads at once: no lock, no allocation.
pub(crate) trait Picker: Debug + Send + Sync {
    /// The position of a host that `request` [accepts](PickRequest::accepts). Counts nothing. `None` only if no host is
    /// accepted, or the picker is out of date.
    ///
    /// Every write goes through `trace`, and `trace` records what is found about the hosts, so a pick and its
    /// explanation share this code.
    fn pick<T: PickTrace>(&self, request: &PickRequest<'_>, trace: &T) -> Option<usize>;

    /// Records all hosts in order of preference in `dry_run`, after [`pick`](Picker::pick) has `chosen`: each with its
    /// load, and with the reason why it is not picked if nothing else excludes it.
    fn rank(&self, request: &PickRequest<'_>, chosen: Option<usize>, dry_run: &DryRun);

    /// Picks and counts in one step, for algorithms whose bound depends on it. By default the pick is repeated until
    /// the host has room.
    fn pick_and_count(&self, request: &PickRequest<'_>, slots: &[Arc<Slot>]) -> Option<usize> {
        pick_with_room(|| self.pick(request, &NoTrace), slots)
    }
}

/// The object-safe form of [`Picker`].
pub(crate) trait DynPicker: Debug + Send + Sync {
    /// See [`Picker::pick`].
    fn dyn_pick(&self, request: &PickRequest<'_>) -> Option<usize>;

    /// See [`Picker::pick_and_count`].
    fn dyn_pick_and_count(&self, request: &PickRequest<'_>, slots: &[Arc<Slot>]) -> Option<usize>;

    /// The same pick without side effects.
    fn dyn_dry_run(&self, request: &PickRequest<'_>, dry_run: &DryRun) -> Option<usize>;

    /// See [`Picker::rank`].
    fn dyn_rank(&self, request: &PickRequest<'_>, chosen: Option<usize>, dry_run: &DryRun);
}

impl<C: Picker> DynPicker for C {
    fn dyn_pick(&self, request: &PickRequest<'_>) -> Option<usize> {
        self.pick(request, &NoTrace)
    }

    fn dyn_pick_and_count(&self, request: &PickRequest<'_>, slots: &[Arc<Slot>]) -> Option<usize> {
        self.pick_and_count(request, slots)
    }

    fn dyn_dry_run(&self, request: &PickRequest<'_>, dry_run: &DryRun) -> Option<usize> {
        self.pick(request, dry_run)
    }

    fn dyn_rank(&self, request: &PickRequest<'_>, chosen: Option<usize>, dry_run: &DryRun) {
        self.rank(request, chosen, dry_run);
    }
}

/// Picks until the host has room for one more request, and counts it there.
pub(super) fn pick_with_room(
    pick: impl Fn() -> Option<usize>,
    slots: &[Arc<Slot>],
) -> Option<usize> {
    loop {
        let position = pick()?;
        if slots[position].try_acquire() {
            return Some(position);
        }
    }
}
