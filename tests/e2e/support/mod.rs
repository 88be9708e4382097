//! The parts of the end-to-end tests: the real binary, backends that misbehave on demand, and clients that show every
//! byte.

mod backend;
mod ballast;
mod both_protocols;
mod browser;
mod client;
mod collector;
mod consul;
mod dns_server;
#[allow(dead_code, reason = "the unit tests of the client need more of it")]
mod etcd;
mod forwarder;
mod http1;
pub(crate) mod http2;
pub(crate) mod http2_backend;
pub(crate) mod http2_tunnel;
mod load;
mod pebble;
mod peers;
mod ports;
mod process;
mod reply;
mod serve;
mod setup;
mod tls;
mod tls_site;
mod unix_relay;
mod wait;
mod wire;

pub(crate) use backend::Backend;
pub(crate) use ballast::{Ballast, Finished, LISTEN, file, finish, run};
pub(crate) use both_protocols::{AnyResponse, BothProtocols};
pub(crate) use browser::Browser;
pub(crate) use client::{Client, Response, get};
pub(crate) use collector::{Collector, ReceivedSpan, hex, section as traced_by};
pub(crate) use consul::{ConsulFault, ConsulInstance, ConsulServer};
pub(crate) use dns_server::{DnsServer, Fault, RecordType};
pub(crate) use etcd::{Etcd, PASSWORD as ETCD_PASSWORD};
pub(crate) use forwarder::Forwarder;
pub(crate) use load::{Connections, Load};
pub(crate) use pebble::Pebble;
pub(crate) use peers::{installed, long, peer};
pub(crate) use ports::{DeadHost, FullHost, free, hold};
pub(crate) use process::{accepted_at, allowed_descriptors, descriptors, processor_time, resident};
pub(crate) use reply::{CannedResponse, Next, Reply};
pub(crate) use serve::HEALTH_PATH;
pub(crate) use setup::Setup;
pub(crate) use tls::{
    Authority, Identity, alert, handshake_kind, served_certificate, stapled_response,
};
pub(crate) use tls_site::TlsSite;
pub(crate) use unix_relay::{UnixRelay, tcp_relay};
pub(crate) use wait::{SOON, wait_for, wait_until};
pub(crate) use wire::{Framing, Head, Wire};
