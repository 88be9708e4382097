//! What an algorithm is inside: a thing that arranges hosts, and the arrangement that picks one.

use std::fmt::Debug;
use std::sync::Arc;

use super::host::Host;
use super::mode::{Earnest, Mode};
use super::rehearsal::Rehearsal;
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

/// An arrangement of hosts, as an algorithm writes it; positions are those of the slice given to
/// [`Algorithm::arrange`], which is never empty.
///
/// Called by many threads at once: no lock, no allocation.
pub(crate) trait Choose: Debug + Send + Sync {
    /// The position of the host for `request`, one that it [may take](Request::may_take). Counts nothing. `None` only if
    /// it found no such host, or the arrangement is out of date.
    ///
    /// Whatever it writes goes through `mode`, and `mode` hears what it finds of the hosts, so that a pick and its
    /// explanation are one.
    fn choose<M: Mode>(&self, request: &Request<'_>, mode: &M) -> Option<usize>;

    /// Tells all hosts in the order of preference, after [`choose`](Choose::choose) has `chosen`: each with what the
    /// algorithm compares, and why it would not be taken although it may be.
    fn rank(&self, request: &Request<'_>, chosen: Option<usize>, rehearsal: &Rehearsal);

    /// Chooses and counts in one step, for algorithms whose promise depends on it. By default the choice stands if the
    /// host has room still.
    fn choose_and_count(&self, request: &Request<'_>, seats: &[Arc<Seat>]) -> Option<usize> {
        count_where_room(|| self.choose(request, &Earnest), seats)
    }
}

/// An arrangement of hosts, as a balancer has it.
pub(crate) trait Chooser: Debug + Send + Sync {
    /// See [`Choose::choose`].
    fn pick(&self, request: &Request<'_>) -> Option<usize>;

    /// See [`Choose::choose_and_count`].
    fn pick_and_count(&self, request: &Request<'_>, seats: &[Arc<Seat>]) -> Option<usize>;

    /// What [`pick`](Chooser::pick) would give.
    fn rehearse(&self, request: &Request<'_>, rehearsal: &Rehearsal) -> Option<usize>;

    /// See [`Choose::rank`].
    fn survey(&self, request: &Request<'_>, chosen: Option<usize>, rehearsal: &Rehearsal);
}

impl<C: Choose> Chooser for C {
    fn pick(&self, request: &Request<'_>) -> Option<usize> {
        self.choose(request, &Earnest)
    }

    fn pick_and_count(&self, request: &Request<'_>, seats: &[Arc<Seat>]) -> Option<usize> {
        self.choose_and_count(request, seats)
    }

    fn rehearse(&self, request: &Request<'_>, rehearsal: &Rehearsal) -> Option<usize> {
        self.choose(request, rehearsal)
    }

    fn survey(&self, request: &Request<'_>, chosen: Option<usize>, rehearsal: &Rehearsal) {
        self.rank(request, chosen, rehearsal);
    }
}

/// Picks until the host has room for one request more, which is counted there.
pub(super) fn count_where_room(
    pick: impl Fn() -> Option<usize>,
    seats: &[Arc<Seat>],
) -> Option<usize> {
    loop {
        let position = pick()?;
        if seats[position].take_if_room() {
            return Some(position);
        }
    }
}
