//! Whose turn it is, for algorithms in which hosts take turns.

use super::host::HostId;

/// A point in a cycle of turns, so that another balancer of the same hosts goes on from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The host whose turn is next.
    pub host: HostId,
    /// Turns that this host has had in the running cycle.
    pub taken: usize,
}
