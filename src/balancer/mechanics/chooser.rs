//! What an algorithm is inside: a thing that arranges hosts, and the arrangement that picks one.

use std::fmt::Debug;
use std::sync::Arc;

use super::host::Host;
use super::seat::{Ledger, Seat};
use super::selection::Selection;
use super::turn::Turn;

/// An algorithm with its options and whatever it carries from one membership to the next.
///
/// All methods are called by one thread at a time, off the request path.
pub(crate) trait Algorithm: Debug + Send + Sync {
    /// Arranges `seats` (each of a weight above 0) for picking. Called once per change of the membership.
    fn arrange(&self, seats: &Arc<[Arc<Seat>]>) -> Box<dyn Chooser>;

    /// What the algorithm keeps about one host's requests, if anything. Called when the host joins.
    fn ledger(&self, _host: &Arc<Host>) -> Option<Arc<dyn Ledger>> {
        None
    }

    /// Whose turn it is in the newest arrangement; `None` where hosts take no turns.
    fn turn(&self) -> Option<Turn> {
        None
    }

    /// Lets the next arrangement begin with `turn`, if its host is in the newest one.
    fn resume(&self, _turn: &Turn) {}
}

/// An arrangement of hosts; positions are those of the slice given to [`Algorithm::arrange`], which is never empty.
///
/// Called by many threads at once: no lock, no allocation.
pub(crate) trait Chooser: Debug + Send + Sync {
    /// The position of the host for `request`. Counts nothing. Of the hosts that `request` has tried, at least one is
    /// missing, and none of them may be returned. `None` only if the arrangement is out of date.
    fn pick(&self, request: &Selection<'_>) -> Option<usize>;

    /// Picks and counts in one step, for algorithms whose promise depends on it. By default no step is needed.
    fn pick_and_count(&self, request: &Selection<'_>, seats: &[Arc<Seat>]) -> Option<usize> {
        let position = self.pick(request)?;
        seats[position].take();
        Some(position)
    }
}
