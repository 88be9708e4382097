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
//!                ← farewell   from here on the predecessor accepts none, and watches
//!                ← probe      where connections come from that prove that the successor accepts
//!     alive      →            which of them it has accepted; again and again
//!                ← release    from here on the predecessor drains
//! ```
//! Between `farewell` and `release` the predecessor has its listening sockets still: if the successor dies or freezes
//! within these seconds, it is killed and the predecessor takes over again. A successor that is told to stop meanwhile, or
//! hands over itself, says `leaving`.
//!
//! Before `farewell` the predecessor serves as if nothing had been said, and whatever goes wrong leaves it so. Both
//! processes hold the same sockets after `take`, so it does not matter which of them dies. A connection that ends without
//! a word means that the predecessor has died: the successor then listens by itself.
//!
//! The predecessor's end must not be the service's. It is where process 1 of a container is ballast, which therefore does
//! not hand over; and where a small init ends the container with its first child, which cannot be seen from here: there,
//! reload in place or replace the container.

mod connection;
mod coordinator;
mod expected_probes;
#[cfg(test)]
mod fuzz;
mod handover_listener;
mod message;
mod successor;
mod successor_process;
mod successor_watch;

pub(super) use coordinator::{HandoverCoordinator, HandoverSources};
pub(super) use expected_probes::ExpectedProbes;
pub(super) use handover_listener::{HandoverListener, check_directory_mode, is_trusted};
pub use successor::TakeoverRequest;
pub(super) use successor::{PredecessorWatch, Successor, Takeover};
pub(super) use successor_process::Program;
