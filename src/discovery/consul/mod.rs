//! Services in Consul as sources of hosts, by blocking queries of the health API.
//!
//! Consul answers such a query when the service has changed since the index of the answer before, or after `wait`. An index
//! that is missing, 0 or less than the one before means that the query must not block (see [`Schedule`]).

mod client;
mod instance;
mod schedule;
mod watch;

pub(super) use client::ConsulClient;
pub(super) use watch::watch;
