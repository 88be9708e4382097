//! Sources of hosts: what they tell, how long it holds, and what is kept of it.
//!
//! Each source of the configuration is asked by a task of its own, which reports [`Answer`]s to the [`SourceTable`]. One
//! rule holds for all sources: an answer that fails, is empty or incomplete never removes a host. `members` puts what is
//! known in the place of what the configuration names, and keeps hosts that a complete answer leaves out until there are
//! enough others.

mod answer;
mod clients;
mod consul;
mod dns;
mod dns_watch;
mod etcd_watch;
mod hosts_file;
mod members;
mod service;
mod source_status;
mod source_table;
mod store;

pub(crate) use members::with_members;
pub(crate) use service::Discovery;
#[cfg(test)]
pub use source_status::SourceAnswers;
pub use source_status::SourceStatus;
pub(crate) use source_table::{SavedHosts, SourceTable};
