//! A client for etcd (API v3, from version 3.4 on).
//!
//! [`EtcdClient`] sends requests to the members of one cluster. Two tasks build on it: a [`PrefixWatch`] keeps all keys
//! under a prefix in memory, and a [`LeasedKey`] keeps a key in etcd as long as this process lives. Both go on through
//! every failure of etcd: what was read stays, and what was written is written again.
//!
//! The messages are declared by hand, because the crates that have them all compile them with protoc.

mod backoff;
mod client;
mod endpoint;
mod error;
mod exchange;
#[cfg(test)]
mod fuzz;
mod key_range;
mod lease;
mod leased_key;
mod messages;
mod operations;
mod prefix_read;
mod prefix_state;
mod prefix_watch;
#[cfg(test)]
mod tests;
mod transaction;
mod watch_stream;

pub use client::EtcdClient;
pub use error::EtcdError;
pub use lease::Lease;
pub use leased_key::{LeasedKey, LeasedKeyStatus};
pub use messages::KeyValue;
pub use prefix_state::PrefixSnapshot;
pub use prefix_watch::{PrefixStatus, PrefixWatch};
pub use transaction::Swap;
