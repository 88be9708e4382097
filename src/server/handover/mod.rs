//! Handover: the listening sockets and the state of the hosts pass to a successor process, without a moment in which no
//! process listens.
//!
//! The two processes exchange these messages over a Unix socket, predecessor on the right:
//! ```text
//!     hello      →            version of this protocol
//!                ← welcome    the listeners, and the state of the pools
//!     prepared   →            everything that can fail is done: file, certificates, pools, new listeners, health checks
//!                ← take       the listening sockets, and the current state
//!     ready      →            the successor accepts connections
//!                ← farewell   the predecessor has stopped accepting, and watches
//!                ← probe      source addresses of connections that prove that the successor accepts
//!     alive      →            the probes that it has accepted; repeated during the watch
//!                ← release    the predecessor drains
//! ```
//! Between `farewell` and `release` the predecessor keeps its listening sockets: if the successor dies or freezes within
//! these seconds, the predecessor kills it and serves again. A successor that is stopped meanwhile, or hands over itself,
//! sends `leaving`.
//!
//! Before `farewell` the predecessor serves as usual, and a failure at any step changes nothing. After `take` both
//! processes hold the same sockets, so either may die. A connection that closes without a message means that the
//! predecessor has died: the successor then binds and listens by itself.
//!
//! The end of the predecessor must not be the end of the service. In a container whose process 1 is ballast it would be,
//! so process 1 does not hand over. A small init process that ends the container with its first child cannot be detected:
//! there, reload in place or replace the container.

mod connection;
mod coordinator;
mod expected_probes;
#[cfg(test)]
mod fuzz;
mod handover_listener;
mod message;
mod probe_source;
mod successor;
mod successor_process;
mod successor_watch;

pub(super) use coordinator::{HandoverCoordinator, HandoverFailure, HandoverSources};
pub(super) use expected_probes::ExpectedProbes;
pub(super) use handover_listener::{HandoverListener, check_directory_mode, is_trusted};
pub(super) use message::HandoverState;
pub use successor::TakeoverRequest;
pub(super) use successor::{PredecessorWatch, Successor, Takeover};
pub(super) use successor_process::Program;
