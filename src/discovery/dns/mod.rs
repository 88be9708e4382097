//! Lookups in DNS, with what a source of hosts has to know of them: for how long an answer holds, whether it is whole, and
//! whether no answer means that there is none.
//!
//! [`DnsResolver`] has the two lookups, of addresses and of services (SRV, RFC 2782). `system_files` has what /etc/hosts and
//! /etc/resolv.conf say; `lookup` goes from a name through search domains and aliases to its records, and `service_lookup`
//! from there to targets; `client` asks servers, `records` finds in a response what was asked for, and `answer` has what
//! comes out. Nothing is cached: who needs a name looks it up again once the TTL is over.
//!
//! hickory brings the messages and their transports. Its resolver would not do: it drops the failure of one address family
//! beside the success of the other, takes SERVFAIL of the first server for the answer, and goes on to the next search
//! domain after a timeout, where the same name may be another service.

mod answer;
mod client;
mod lookup;
mod records;
mod resolver;
mod service_lookup;
mod system_files;
#[cfg(test)]
mod tests;

pub(crate) use answer::{AddressAnswer, DnsError, ServiceAnswer, ServiceTarget, WholeFamilies};
pub(crate) use resolver::DnsResolver;
