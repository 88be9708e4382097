//! What all algorithms share: hosts and their live state, membership, the swapped snapshot, counting, time and chance.

mod alias;
mod chooser;
mod clock;
mod error;
mod host;
mod lease;
mod members;
mod options;
mod rng;
mod seat;
mod selection;

pub use clock::Clock;
pub use error::BalancerError;
pub use host::{Host, HostId, MAX_WEIGHT};
pub use lease::Lease;
pub use options::Options;
pub use selection::Selection;

pub(crate) use alias::Alias;
pub(crate) use chooser::{Algorithm, Chooser};
pub(crate) use host::Live;
pub(crate) use members::Members;
pub(crate) use options::invalid;
pub(crate) use rng::{Rng, scale};
pub(crate) use seat::{Ledger, Seat};
