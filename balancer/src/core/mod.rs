//! The parts that all algorithms share: hosts and their live state, membership, the snapshot, counting, time,
//! randomness.

mod alias_table;
mod balancer;
mod clock;
mod cohort;
mod cursor;
mod decaying_mean;
mod error;
mod explanation;
mod hash;
mod host;
mod host_address;
mod host_stats;
mod hosts;
mod info;
mod joining;
mod lease;
mod member;
mod options;
mod pick;
mod pool_stats;
mod ring;
mod rng;
mod selection;
mod slow_start;
mod snapshot_cell;
mod trace;
mod walk;

pub use balancer::Balancer;
pub use clock::Clock;
pub use cursor::Cursor;
pub use error::BalancerError;
pub use explanation::{Candidate, CandidateReason, Explanation};
pub use host::{Host, HostId, MAX_WEIGHT};
pub use host_address::{HostAddress, InvalidHostAddress};
pub use host_stats::StatsSnapshot;
pub use info::OptionInfo;
pub use joining::Joining;
pub use lease::{Lease, Outcome};
pub use options::Options;
pub use selection::Selection;

pub(crate) use alias_table::AliasTable;
pub(crate) use cohort::Cohort;
pub(crate) use hash::{OFFSET, hash, mix};
pub(crate) use host_stats::HostStats;
pub(crate) use hosts::{Hosts, LoadModel};
pub(crate) use info::{Hashed, Info};
pub(crate) use member::Member;
pub(crate) use options::{invalid, parse_into};
pub(crate) use pick::{Before, Mark, Pick, Picker, Strategy};
pub(crate) use ring::Ring;
pub(crate) use rng::{GOLDEN, Rng, bits_at, exponential, scale, unit};
pub(crate) use trace::{Ranked, Trace};
pub(crate) use walk::{Walk, WalkPicker, distinct};
