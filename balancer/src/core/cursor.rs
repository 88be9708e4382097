//! A position in a cycle, for algorithms in which hosts take turns.

use super::host::HostId;

/// A position in a cycle of turns. Another balancer of the same hosts continues from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The host whose turn is next.
    pub host: HostId,
    /// The number of turns that this host has had in the current cycle.
    pub taken: usize,
}
