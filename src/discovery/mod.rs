//! Sources of hosts: where the hosts of a pool come from, and when they change.
#![allow(
    dead_code,
    unused_imports,
    reason = "lookups come first, and the sources that use them after"
)]

mod dns;

pub(crate) use dns::{
    AddressAnswer, DnsError, DnsResolver, ServiceAnswer, ServiceTarget, happy_eyeballs,
};
