//! Servers and waiting, shared with the end-to-end tests.

#[allow(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../tests/e2e/support"]
mod shared {
    mod dns_server;
    mod etcd;
    mod peers;
    mod ports;
    mod tls;
    mod wait;

    pub(crate) use dns_server::{DnsServer, Fault, RecordType};
    pub(crate) use etcd::{Etcd, PASSWORD};
    pub(crate) use ports::{DeadHost, FullHost};
    pub(crate) use wait::SOON;
}

pub(crate) use shared::{DeadHost, DnsServer, Etcd, Fault, FullHost, PASSWORD, RecordType, SOON};
