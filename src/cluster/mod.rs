//! Several balancers that serve the same hosts and know of each other through etcd.
//!
//! Everything is under one prefix: a key for each live member, which ends with its lease; what operators have changed, by
//! pool; and a secret from which keys of cookies and session tickets are derived. Each member has all of it in memory and
//! decides alone: without etcd it goes on with what it knew last, also after a start, and only changes by operators are
//! refused.

mod clusterer;
mod known_state;
mod lock;
mod publish_error;
mod saved_view;
mod secret;
mod status;
mod view;

pub(crate) use clusterer::Cluster;
pub(crate) use lock::LockOutcome;
pub(crate) use publish_error::PublishError;
pub(crate) use secret::ClusterSecret;
pub use status::{ClusterStatus, LimitShare};
pub use view::{ClusterMember, MemberRecord};
pub(crate) use view::{PoolChanges, SharedChanges};
