//! What an algorithm is inside: a thing that arranges hosts, and the arrangement that picks one.

use std::fmt::Debug;
use std::sync::Arc;

use super::cursor::Cursor;
use super::dry_run::DryRun;
use super::host::Host;
use super::pick_request::PickRequest;
use super::slot::{PerHostState, Slot};
use super::trace::{NoTrace, PickTrace};

/// An algorithm with its options and whatever it carries from one membership to the next.
///
/// All methods are called by one thread at a time, off the request path.
pub(crate) trait Algorithm: Debug + Send + Sync {
    /// Arranges `slots` (each of a weight above 0) for picking. Called once per change of the membership.
    fn build_picker(&self, slots: &Arc<[Arc<Slot>]>) -> Box<dyn DynPicker>;

    /// What the algorithm keeps about one host's requests, if anything. Called when the host joins.
    fn per_host_state(&self, _host: &Arc<Host>) -> Option<Arc<dyn PerHostState>> {
        None
    }

    /// Whose turn it is in the newest arrangement; `None` where hosts take no turns.
    fn cursor(&self) -> Option<Cursor> {
        None
    }

    /// Whether a host that is new or recovered may start slowly. Where a key belongs to a host it cannot.
    fn starts_slowly(&self) -> bool {
        true
    }

    /// Lets the next arrangement begin with `cursor`, if its host is in the newest one.
    fn seek(&self, _cursor: &Cursor) {}
}

/// An arrangement of hosts, as an algorithm writes it; positions are those of the slice given to
/// [`Algorithm::build_picker`], which is never empty.
///
/// Called by many threads at once: no lock, no allocation.
pub(crate) trait Picker: Debug + Send + Sync {
    /// The position of the host for `request`, one that it [accepts](PickRequest::accepts). Counts nothing. `None` only if
    /// it found no such host, or the arrangement is out of date.
    ///
    /// Whatever it writes goes through `trace`, and `trace` hears what it finds of the hosts, so that a pick and its
    /// explanation are one.
    fn pick<T: PickTrace>(&self, request: &PickRequest<'_>, trace: &T) -> Option<usize>;

    /// Tells all hosts in the order of preference, after [`pick`](Picker::pick) has `chosen`: each with what the
    /// algorithm compares, and why it would not be taken although it may be.
    fn rank(&self, request: &PickRequest<'_>, chosen: Option<usize>, dry_run: &DryRun);

    /// Chooses and counts in one step, for algorithms whose promise depends on it. By default the choice stands if the
    /// host has room still.
    fn pick_and_count(&self, request: &PickRequest<'_>, slots: &[Arc<Slot>]) -> Option<usize> {
        pick_with_room(|| self.pick(request, &NoTrace), slots)
    }
}

/// An arrangement of hosts, as a balancer has it.
pub(crate) trait DynPicker: Debug + Send + Sync {
    /// See [`Picker::pick`].
    fn dyn_pick(&self, request: &PickRequest<'_>) -> Option<usize>;

    /// See [`Picker::pick_and_count`].
    fn dyn_pick_and_count(&self, request: &PickRequest<'_>, slots: &[Arc<Slot>]) -> Option<usize>;

    /// What [`dyn_pick`](DynPicker::dyn_pick) would give.
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

/// Picks until the host has room for one request more, which is counted there.
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
