//! The parts that all algorithms share: hosts and their live state, membership, the snapshot, counting, time,
//! randomness.

mod alias_table;
mod clock;
mod cursor;
mod decaying_mean;
mod dry_run;
mod error;
mod explanation;
mod fallback;
mod generic_balancer;
mod host;
mod host_address;
mod host_stats;
mod lease;
mod options;
mod per_host_map;
mod pick_request;
mod picker;
mod pool_stats;
mod ring;
mod rng;
mod selection;
mod slot;
mod slow_start;
mod snapshot_cell;
mod trace;

pub use clock::Clock;
pub use cursor::Cursor;
pub use error::BalancerError;
pub use explanation::{Candidate, CandidateReason, Explanation};
pub use host::{Host, HostId, MAX_WEIGHT};
pub use host_address::{HostAddress, InvalidHostAddress};
pub use host_stats::StatsSnapshot;
pub use lease::Lease;
pub use options::Options;
pub use selection::Selection;

pub(crate) use alias_table::AliasTable;
pub(crate) use dry_run::DryRun;
pub(crate) use fallback::{Fallback, HasKey};
pub(crate) use generic_balancer::GenericBalancer;
pub(crate) use host_stats::HostStats;
pub(crate) use options::invalid;
pub(crate) use per_host_map::PerHostMap;
pub(crate) use pick_request::{LoadModel, PickRequest};
pub(crate) use picker::{Algorithm, DynPicker, Picker};
pub(crate) use ring::{Ring, RingBuilder};
pub(crate) use rng::{Rng, scale};
pub(crate) use slot::{PerHostState, Slot};
pub(crate) use trace::{NoTrace, PickTrace};
