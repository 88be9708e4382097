//! Where the hosts of a pool come from, other than from the file itself.

use std::fmt;
use std::path::PathBuf;

use super::consul::ConsulService;

/// A source of hosts. It is asked as long as a pool has it, and pools with the same source share the answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostSource {
    /// All addresses of a name, in lower case.
    Name(String),
    /// The targets of the SRV records of a name, in lower case.
    Srv(String),
    /// A file.
    File(PathBuf),
    /// The keys in etcd that begin so.
    Etcd(String),
    /// The instances of a service in Consul.
    Consul(ConsulService),
}

impl HostSource {
    /// The kind of source, as in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            HostSource::Name(_) => "dns",
            HostSource::Srv(_) => "srv",
            HostSource::File(_) => "file",
            HostSource::Etcd(_) => "etcd",
            HostSource::Consul(_) => "consul",
        }
    }

    /// What of its kind is asked for: a name, a path, a prefix or a service.
    pub fn name(&self) -> String {
        match self {
            HostSource::Name(name) | HostSource::Srv(name) => name.clone(),
            HostSource::File(path) => path.display().to_string(),
            HostSource::Etcd(prefix) => prefix.clone(),
            HostSource::Consul(service) => service.to_string(),
        }
    }
}

impl fmt::Display for HostSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}
