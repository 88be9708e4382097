//! Lookups against a server that answers and lies as a test says.

mod addresses;
mod failures;
mod services;
mod system_files;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::resolver::DnsResolver;
use super::system_files::SystemFiles;
use crate::config;
use crate::test_support::{DnsServer, SOON};

/// For tests in which a server is silent, while others answer on a busy machine.
const IMPATIENT: Duration = Duration::from_millis(800);

/// Asks these servers once each, without the files of the system.
fn resolver(servers: &[&DnsServer]) -> DnsResolver {
    without_files(&config(servers))
}

/// The same, which does not wait long.
fn impatient(servers: &[&DnsServer]) -> DnsResolver {
    without_files(&config::Dns {
        timeout: IMPATIENT,
        ..config(servers)
    })
}

fn without_files(config: &config::Dns) -> DnsResolver {
    DnsResolver::with_files(config, files(Path::new("/nonexistent"))).expect("a resolver")
}

fn config(servers: &[&DnsServer]) -> config::Dns {
    config::Dns {
        servers: Vec::from_iter(servers.iter().map(|server| server.address())),
        timeout: SOON,
        attempts: 1,
        min_ttl: Duration::from_secs(2),
        max_ttl: Duration::from_secs(100),
        search: true,
    }
}

fn files(directory: &Path) -> SystemFiles {
    SystemFiles {
        hosts: directory.join("hosts"),
        resolv_conf: directory.join("resolv.conf"),
    }
}

fn texts(addresses: &[IpAddr]) -> String {
    Vec::from_iter(addresses.iter().map(IpAddr::to_string)).join(" ")
}

/// An address where no server is.
fn nowhere() -> SocketAddr {
    DnsServer::start().address()
}
