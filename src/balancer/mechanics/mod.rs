//! What all algorithms share: hosts and their live state, membership, the swapped snapshot, counting, time and chance.

mod alias;
mod chooser;
mod clock;
mod conditions;
mod error;
mod explanation;
mod fallback;
mod host;
mod lease;
mod ledgers;
mod live;
mod mean;
mod members;
mod mode;
mod options;
mod published;
mod rehearsal;
mod request;
mod ring;
mod rng;
mod seat;
mod selection;
mod slow_start;
mod turn;

pub use clock::Clock;
pub use error::BalancerError;
pub use explanation::{Candidate, Explanation, Reason};
pub use host::{Host, HostId, MAX_WEIGHT};
pub use lease::Lease;
pub use live::Measured;
pub use options::Options;
pub use selection::Selection;
pub use turn::Turn;

pub(crate) use alias::Alias;
pub(crate) use chooser::{Algorithm, Choose, Chooser};
pub(crate) use fallback::{Fallback, HasKey};
pub(crate) use ledgers::Ledgers;
pub(crate) use live::Live;
pub(crate) use members::Members;
pub(crate) use mode::{Earnest, Mode};
pub(crate) use options::invalid;
pub(crate) use rehearsal::Rehearsal;
pub(crate) use request::{Request, Scales};
pub(crate) use ring::{Ring, RingKeeper};
#[cfg(feature = "proxy")]
pub(crate) use rng::draw_of_thread;
pub(crate) use rng::{Rng, scale};
pub(crate) use seat::{Ledger, Seat};
