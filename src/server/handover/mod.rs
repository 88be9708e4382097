//! Handover: the listening sockets and what was learnt of the hosts pass to a successor process, without a moment in
//! which nobody listens.
//!
//! Over a Unix socket the two say, predecessor on the right:
//! ```text
//!     hello      →            version of this protocol
//!                ← welcome    the listeners, and the state of the pools
//!     prepared   →            everything that can fail has been done: file, certificates, pools, new listeners, checks
//!                ← take       the listening sockets themselves, and whose turn it is now
//!     ready      →            it accepts connections
//!                ← farewell   from here on the predecessor drains
//! ```
//! Before `farewell` the predecessor serves as if nothing had been said, and whatever goes wrong leaves it so. Both
//! processes hold the same sockets after `take`, so it does not matter which of them dies. A connection that ends without
//! a word means that the predecessor has died: the successor then listens by itself.
//!
//! The predecessor's end must not be the service's. It is where process 1 of a container is ballast, which therefore does
//! not hand over; and where a small init ends the container with its first child, which cannot be seen from here: there,
//! reload in place or replace the container.

#[cfg(test)]
mod fuzz;
mod launch;
mod link;
mod message;
mod place;
mod predecessor;
mod successor;

pub(super) use launch::Program;
pub(super) use place::{Door, check_privacy, is_trusted};
pub(super) use predecessor::Handover;
pub use successor::Upgrade;
pub(super) use successor::{Inheritance, Successor};
