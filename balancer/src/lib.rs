//! Load balancing algorithms: which host gets the next request. Without I/O, without an async runtime; std and three small
//! crates.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use ballast_balancer::{Host, Outcome, Selection, build};
//!
//! let hosts = ["10.0.0.1:80", "10.0.0.2:80"].map(|address| Arc::new(Host::new(address.parse().unwrap())));
//! let balancer = build("p2c", hosts)?;
//! let lease = balancer.lease(&Selection::new())?;   // picks a host and counts the request on it
//! println!("send it to {}", lease.host().address());
//! lease.finish(Outcome::success(Duration::from_millis(8)));   // or drop it: the count ends in any case
//! # Ok::<(), ballast_balancer::BalancerError>(())
//! ```
//!
//! [`build`] takes the name of an algorithm, [`Balancer::new`] a typed one with its options and a seed. Each algorithm has a
//! page of its own, with how it works, what it costs, its bound and its source, and when not to use it:
//!
//! | algorithm | chooses |
//! |---|---|
//! | [`p2c`] | the less loaded of two random hosts, by weight: if in doubt, this one |
//! | [`least_load`] | the fewest requests in flight by weight |
//! | [`least_time`] | the host that will respond first, by its latency and its queue |
//! | [`round_robin`] | hosts in turn, smoothly and exactly by weight |
//! | [`random`] | a host drawn by weight |
//! | [`consistent_hash`] | the key's host on a ketama ring, the same as nginx's |
//! | [`bounded`] | the ring, but no host above its share by more than a factor |
//! | [`maglev`] | the key's host in an evenly divided table |
//! | [`ip_hash`] | the client address's host, by rendezvous hashing |
//!
//! An algorithm's file holds its page, its options, and how it picks a host among those that it sees. The parts that all
//! share (membership, the atomically swapped snapshot, counting) stand once. A pick takes no lock and does not allocate.
//!
//! # What holds for every algorithm
//!
//! - A host that the request has tried is not picked again while another one is left ([`Selection::tried`]).
//! - No pick exceeds the limit of a host ([`Host::with_max_in_flight`]): a full host is skipped like a tried one, and
//!   [`BalancerError::Busy`] is returned if none is left.
//! - Live state (requests in flight, latency, failures) follows the identity of a host: it stays when the host leaves and
//!   returns, or changes its weight.
//! - A host may be in slow start ([`Joining::slow_start`]), except with algorithms that hash: it then keeps a request that it
//!   was picked for with the probability of its share; otherwise the pick is repeated without it.
//!
//! # Loads
//!
//! [`p2c`] and [`least_load`] compare the loads of hosts, which consist of more than the requests in flight:
//! ```text
//! load = (in flight + recent failures) / weight × slowness / share
//! ```
//! Each failed request counts like one in flight that fades with a time constant of 3 s, so a host that fails fast does
//! not look idle before it is ejected. The slowness is the host's mean latency divided by 1.5 times that of all hosts
//! together, limited to 1 to 10, so a slow host gets requests only when it is nearly idle. The share is that of slow
//! start.
//!
//! # Weights
//!
//! Shares follow the weights at any load: a host of weight w gets about w/W of the requests, whether there are many in flight
//! or hardly one. That is not a matter of course where loads are compared: an idle host of weight 1 beats one of weight 99
//! with a single request, and would get a third of the requests instead of a hundredth. Where the weights differ, [`least_load`]
//! and [`p2c`] therefore take a host of weight w for w places, each as good as any other, and draw a free one;
//! [`least_time`] adds a random part of a request to each queue, with which a light host still gets up to three times its share
//! at some loads.
//!
//! # Membership
//!
//! [`Balancer::add_host`] and [`Balancer::remove_host`] change one host, [`Balancer::set_hosts`] all in one step; each rebuilds
//! what the algorithm needs, in a time that grows with the number of hosts, while picks go on with what was there. Requests
//! on a host that has left end as they would have.
#![deny(missing_docs, unreachable_pub)]

pub mod bounded;
pub mod consistent_hash;
pub mod ip_hash;
pub mod least_load;
pub mod least_time;
pub mod maglev;
pub mod p2c;
pub mod random;
pub mod round_robin;

mod core;
mod fallback;
mod key_movement;
mod registry;

pub use core::{
    Balancer, BalancerError, Candidate, CandidateReason, Clock, Cursor, Explanation, Host,
    HostAddress, HostId, InvalidHostAddress, Joining, Lease, MAX_WEIGHT, OptionInfo, Options,
    Outcome, Selection, StatsSnapshot,
};
pub use fallback::Fallback;
pub use key_movement::{KeyMapping, KeyMovement};
pub use registry::{ALGORITHMS, Algorithm, AlgorithmInfo, build};

/// The examples of README.md, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
