//! Several balancers that serve the same hosts and know of each other through etcd.
//!
//! Everything is under one prefix: a key for each live member, which ends with its lease; what operators have changed, by
//! pool; and a secret from which keys of cookies and session tickets are derived. Each member has all of it in memory and
//! decides alone: without etcd it goes on with what it knew last, and only changes by operators are refused.

mod clusterer;
mod lock;
mod view;

pub(crate) use clusterer::Cluster;
pub use clusterer::ClusterStatus;
pub(crate) use lock::LockOutcome;
pub(crate) use view::PoolChanges;
pub use view::{ClusterMember, MemberRecord};
