//! Seven balancing algorithms behind one trait, without I/O: no Tokio, no Pingora, std and three small crates.
//!
//! ```
//! use std::sync::Arc;
//! use ballast_balancer::{Host, Selection, build};
//!
//! let hosts = ["10.0.0.1:80", "10.0.0.2:80"].map(|address| Arc::new(Host::new(address.parse().unwrap())));
//! let balancer = build("p2c", hosts)?;
//! let lease = balancer.lease(&Selection::new())?;   // picks a host and counts the request on it
//! println!("send it to {}", lease.host().address());
//! drop(lease);                                      // the request ended, however it did
//! # Ok::<(), ballast_balancer::BalancerError>(())
//! ```
//!
//! An algorithm's file holds its documentation, its options, how it builds a picker and how that picks a host. The
//! parts that all algorithms share (membership, the atomically swapped snapshot, counting) are in `core`. A pick takes
//! no lock and does not allocate.
//!
//! For every algorithm:
//! - a host that the request has tried is not picked again while another one is left;
//! - no pick exceeds the limit of a host ([`Host::with_max_in_flight`]): a full host is skipped like a tried one, and
//!   [`BalancerError::Busy`] is returned if none is left;
//! - a host may be in slow start ([`Balancer::begin_slow_start`]), except with algorithms that map keys to hosts: it
//!   then keeps a request that it was picked for with the probability of its share; otherwise the pick is repeated
//!   without it.
//!
//! `p2c` and `least_load` compare the loads of hosts, which consist of more than the requests in flight:
//! ```text
//! load = (in flight + recent failures) / weight × slowness / share
//! ```
//! Each failed request counts like one in flight that fades with a time constant of 3 s, so a host that fails fast does
//! not look idle before it is ejected. The slowness is the host's mean latency divided by 1.5 times that of all hosts
//! together, limited to 1 to 10, so a slow host gets requests only when it is nearly idle. The share is that of slow
//! start.

#![deny(missing_docs, unreachable_pub)]

mod bounded;
mod consistent_hash;
mod core;
mod ip_hash;
mod key_movement;
mod least_load;
mod p2c;
mod random;
mod registry;
mod round_robin;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

pub use core::{
    BalancerError, Candidate, CandidateReason, Clock, Cursor, Explanation, Host, HostAddress,
    HostId, InvalidHostAddress, Lease, MAX_WEIGHT, Options, Selection, StatsSnapshot,
};
pub use key_movement::{KeyMapping, KeyMovement};
pub use registry::{ALGORITHMS, AlgorithmInfo, OptionInfo, build, build_with};

/// Chooses a host for each request and counts the requests on it.
///
/// All methods may be called from any thread at any time. `balance_host` and `lease` never block; the membership
/// methods rebuild what the algorithm needs and then replace it in one step.
pub trait Balancer: Debug + Send + Sync {
    /// Makes `host` a member.
    ///
    /// # Errors
    /// [`BalancerError::AlreadyAdded`] if a member has its identity.
    fn add_host(&self, host: Arc<Host>) -> Result<(), BalancerError>;

    /// Makes `hosts` members in one step, as often as they are not members yet: what an algorithm builds is built once, and not
    /// for each of them.
    fn add_hosts(&self, hosts: &[Arc<Host>]) {
        for host in hosts {
            // It is one already.
            let _ = self.add_host(Arc::clone(host));
        }
    }

    /// Removes a member. Requests in flight on the host continue, and their leases stay valid.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity.
    fn remove_host(&self, id: &HostId) -> Result<(), BalancerError>;

    /// Removes these members in one step; identities of no member are passed over.
    fn remove_hosts(&self, ids: &[HostId]) {
        for id in ids {
            // There is none.
            let _ = self.remove_host(id);
        }
    }

    /// Picks a host for `request` without counting anything; see [`lease`](Balancer::lease).
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] if no member has a weight above 0; [`BalancerError::Busy`] if every host that the
    /// request has not tried is at its limit.
    fn balance_host(&self, request: &Selection<'_>) -> Result<Arc<Host>, BalancerError>;

    /// Counts one more request on a member, regardless of its limit.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity.
    fn inc(&self, id: &HostId) -> Result<(), BalancerError>;

    /// Counts one request less on a member, or on a host that has been removed; never below 0.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if this identity has no requests in flight as a member or as a removed host.
    fn done(&self, id: &HostId) -> Result<(), BalancerError>;

    /// Picks a host and counts the request on it, in one atomic step where the algorithm's bound depends on it.
    /// Dropping the lease ends the count.
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] if no member has a weight above 0; [`BalancerError::Busy`] if every host that the
    /// request has not tried is at its limit.
    fn lease(&self, request: &Selection<'_>) -> Result<Lease, BalancerError>;

    /// Counts a request on a member that was chosen elsewhere, as [`lease`](Balancer::lease) does for its pick.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity; [`BalancerError::Busy`] if it is at its limit.
    fn lease_of(&self, id: &HostId) -> Result<Lease, BalancerError>;

    /// What [`lease`](Balancer::lease) would pick for `request` now, and why each member would be picked or not. It
    /// runs the same code, but counts nothing and moves neither cursors nor the seeded random sequence. With
    /// [`Options::seed`], or an algorithm that is deterministic, the next lease has this outcome, unless something
    /// changes in between; otherwise this is one possible outcome.
    ///
    /// Takes time and memory in proportion to the number of members: not for the path of a request.
    fn explain(&self, request: &Selection<'_>) -> Explanation;

    /// Starts the slow start of a member as if it had begun `elapsed` ago: its share rises from the floor to 1 within
    /// the window of [`Options::slow_start`]. Does nothing without such a window, nor with an algorithm that maps keys
    /// to hosts (`consistent_hash`, `bounded`, `ip_hash`). Removing the member ends its slow start.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity.
    fn begin_slow_start(&self, id: &HostId, elapsed: Duration) -> Result<(), BalancerError>;

    /// How long a member has been in slow start; `None` if it is not.
    fn slow_start_elapsed(&self, id: &HostId) -> Option<Duration>;

    /// The position in the cycle, for algorithms in which hosts take turns. Another balancer continues from it with
    /// [`seek`](Balancer::seek).
    fn cursor(&self) -> Option<Cursor> {
        None
    }

    /// Continues from `cursor`. Does nothing if its host is not a member, or the algorithm has no turns.
    fn seek(&self, _cursor: &Cursor) {}
}
