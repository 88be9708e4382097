//! What an algorithm is inside: a thing that arranges hosts, and the arrangement that picks one.

use std::fmt::Debug;
use std::sync::Arc;

use super::host::Host;
use super::request::Request;
use super::seat::{Ledger, Seat};
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

    /// Whether a host that is new or recovered may start slowly. Where a key belongs to a host it cannot.
    fn starts_slowly(&self) -> bool {
        true
    }

    /// Lets the next arrangement begin with `turn`, if its host is in the newest one.
    fn resume(&self, _turn: &Turn) {}
}

/// An arrangement of hosts; positions are those of the slice given to [`Algorithm::arrange`], which is never empty.
///
/// Called by many threads at once: no lock, no allocation.
pub(crate) trait Chooser: Debug + Send + Sync {
    /// The position of the host for `request`, one that it [may take](Request::may_take). Counts nothing. `None` only if
    /// it found no such host, or the arrangement is out of date.
    fn pick(&self, request: &Request<'_>) -> Option<usize>;

    /// Picks and counts in one step, for algorithms whose promise depends on it. By default the pick stands if the host
    /// has room still.
    fn pick_and_count(&self, request: &Request<'_>, seats: &[Arc<Seat>]) -> Option<usize> {
        loop {
            let position = self.pick(request)?;
            if seats[position].take_if_room() {
                return Some(position);
            }
        }
    }
}
