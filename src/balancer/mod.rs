//! Seven balancing algorithms behind one trait, without I/O: no Tokio, no Pingora, std and three small crates.
//!
//! ```
//! use std::sync::Arc;
//! use ballast::balancer::{Host, Selection, build};
//!
//! let hosts = ["10.0.0.1:80", "10.0.0.2:80"].map(|address| Arc::new(Host::new(address.parse().unwrap())));
//! let balancer = build("p2c", hosts)?;
//! let lease = balancer.lease(&Selection::new())?;   // picks a host and counts the request on it
//! println!("send it to {}", lease.host().address());
//! drop(lease);                                      // the request ended, however it did
//! # Ok::<(), ballast::balancer::BalancerError>(())
//! ```
//!
//! An algorithm's file holds its page, its options, how it arranges hosts and how it picks one; what all of them share
//! (membership, the atomically swapped snapshot, counting) stands once, in `core`. A pick takes no lock and does
//! not allocate.
//!
//! With every algorithm
//! - a host that a request has tried is not chosen for it while another is left;
//! - no pick goes beyond the limit of a host ([`Host::with_max_in_flight`]): the choice moves on as it would from a host
//!   that was tried, and [`BalancerError::Busy`] says that none is left;
//! - a host may start slowly ([`Balancer::begin_slow_start`]), unless keys belong to hosts: when it is chosen, it is taken with the
//!   probability of its share, and the choice is made again without it otherwise.
//!
//! `p2c` and `least_load` compare the loads of hosts, and a load is more than requests in flight:
//! ```text
//! load = (in flight + recent failures) / weight × slowness / share
//! ```
//! Each failed request counts like one in flight that fades with a time constant of 3 s, so a host that fails fast does
//! not look idle before it is taken out. Slowness is the host's mean latency by 1.5 times that of all hosts together, 1
//! to 10, so a slow host waits until it is idle; the share is that of a slow start.

mod bounded;
mod consistent_hash;
mod core;
mod ip_hash;
mod least_load;
mod p2c;
mod random;
mod registry;
mod round_robin;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "proxy")]
pub(crate) use core::thread_random;
pub use core::{
    BalancerError, Candidate, CandidateReason, Clock, Cursor, Explanation, Host, HostId, Lease,
    MAX_WEIGHT, Options, Selection, StatsSnapshot,
};
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

    /// Ends a membership. Requests that run on the host go on, and their leases stay valid.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity.
    fn remove_host(&self, id: &HostId) -> Result<(), BalancerError>;

    /// The host for `request`. Counts nothing; see [`lease`](Balancer::lease).
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] if no member has a weight above 0; [`BalancerError::Busy`] if every host that the request
    /// has not tried is at its limit.
    fn balance_host(&self, request: &Selection<'_>) -> Result<Arc<Host>, BalancerError>;

    /// Counts one request more on a member, whatever its limit.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity.
    fn inc(&self, id: &HostId) -> Result<(), BalancerError>;

    /// Counts one request less on a member, or on a host that has left since; never below 0.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no host of this identity was a member with requests running.
    fn done(&self, id: &HostId) -> Result<(), BalancerError>;

    /// Picks a host and counts the request on it, in one step where the algorithm's promise depends on that. The count
    /// ends when the lease is dropped.
    ///
    /// # Errors
    /// [`BalancerError::NoHosts`] if no member has a weight above 0; [`BalancerError::Busy`] if every host that the request
    /// has not tried is at its limit.
    fn lease(&self, request: &Selection<'_>) -> Result<Lease, BalancerError>;

    /// Counts a request on a member that was chosen elsewhere, as [`lease`](Balancer::lease) counts it on its choice.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity; [`BalancerError::Busy`] if it is at its limit.
    fn lease_of(&self, id: &HostId) -> Result<Lease, BalancerError>;

    /// What [`lease`](Balancer::lease) would choose for `request` now, and why each member would be taken or not. It is
    /// the choice itself, made without counting anything, moving a turn or drawing a number that a choice would draw: with
    /// [`Options::seed`], and wherever chance plays no part, the next lease has the outcome that this tells, unless
    /// something changes in between. Where chance does, it is one that the next lease may have.
    ///
    /// Takes time and memory in proportion to the members: not for the path of a request.
    fn explain(&self, request: &Selection<'_>) -> Explanation;

    /// Lets a member start slowly, as if it had begun `elapsed` ago: its share rises from the floor to 1 within the
    /// window of [`Options::slow_start`]. Nothing happens without such a window, nor where keys belong to hosts
    /// (`consistent_hash`, `bounded`, `ip_hash`). A slow start ends when the member leaves.
    ///
    /// # Errors
    /// [`BalancerError::UnknownHost`] if no member has this identity.
    fn begin_slow_start(&self, id: &HostId, elapsed: Duration) -> Result<(), BalancerError>;

    /// How long a member has been starting slowly; `None` if it does not.
    fn slow_start_elapsed(&self, id: &HostId) -> Option<Duration>;

    /// Whose turn is next, where hosts take turns; to be carried into another balancer by
    /// [`seek`](Balancer::seek).
    fn cursor(&self) -> Option<Cursor> {
        None
    }

    /// Goes on from `cursor`. Nothing happens if its host is no member or hosts take no turns here.
    fn seek(&self, _cursor: &Cursor) {}
}
