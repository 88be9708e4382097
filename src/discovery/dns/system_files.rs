//! /etc/hosts and /etc/resolv.conf: what they say, and whether they have changed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hickory_resolver::Hosts;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;

use super::records::host_address;

/// Files beyond this size are cut; the largest lists of blocked names have a few MiB.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;
/// As many servers of resolv.conf count as with glibc (MAXNS).
const MAX_SERVERS: usize = 3;
/// As many search domains count as Kubernetes gives a pod.
const MAX_SEARCH: usize = 32;
/// What glibc does where resolv.conf is missing or has no server: it asks one on this machine.
const LOCAL_SERVER: &[u8] = b"\nnameserver 127.0.0.1\n";

/// Where the files are.
#[derive(Debug, Clone)]
pub(super) struct SystemFiles {
    pub(super) hosts: PathBuf,
    pub(super) resolv_conf: PathBuf,
}

/// What changes when one of the files is written or replaced: time of the last write, inode, device and length.
pub(super) type Stamps = [Option<(SystemTime, u64, u64, u64)>; 2];

/// What the files say.
#[derive(Debug)]
pub(super) struct SystemConfig {
    hosts: Hosts,
    /// In the order in which they are asked.
    pub(super) servers: Vec<SocketAddr>,
    search: Vec<Name>,
    ndots: usize,
}

impl Default for SystemFiles {
    fn default() -> Self {
        SystemFiles {
            hosts: PathBuf::from("/etc/hosts"),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

impl SystemFiles {
    /// What differs once a file has changed.
    pub(super) fn stamps(&self) -> Stamps {
        [&self.hosts, &self.resolv_conf].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            let modified = metadata.modified().ok()?;
            Some((modified, metadata.ino(), metadata.dev(), metadata.len()))
        })
    }

    /// Reads both files. A missing one is an empty one.
    ///
    /// # Errors
    ///
    /// For people: a file cannot be read, or resolv.conf has a search domain that is no name.
    pub(super) fn read(&self) -> Result<SystemConfig, String> {
        let mut hosts = Hosts::default();
        // Names in hosts are ASCII, but comments may be in any encoding, and those would end the reading.
        let text = read(&self.hosts)?;
        let text = String::from_utf8_lossy(&text);
        hosts
            .read_hosts_conf(text.as_bytes())
            .map_err(|error| format!("{}: {error}", self.hosts.display()))?;

        let mut text = read(&self.resolv_conf)?;
        let parsed = parse_resolv_conf(&text).or_else(|_| {
            text.extend_from_slice(LOCAL_SERVER);
            parse_resolv_conf(&text)
        });
        let (config, options) =
            parsed.map_err(|error| format!("{}: {error}", self.resolv_conf.display()))?;
        let servers = config.name_servers.iter().flat_map(|server| {
            let first = server.connections.first();
            first.map(|connection| SocketAddr::new(server.ip, connection.port))
        });
        let search = match (config.search.as_slice(), config.domain.clone()) {
            ([], domain) => Vec::from_iter(domain),
            (search, _) => search.iter().take(MAX_SEARCH).cloned().collect(),
        };
        Ok(SystemConfig {
            hosts,
            servers: servers.take(MAX_SERVERS).collect(),
            search,
            ndots: options.ndots,
        })
    }
}

impl SystemConfig {
    /// The addresses of a name in hosts; empty if it is not there.
    pub(super) fn in_hosts(&self, name: &Name) -> Vec<IpAddr> {
        let of_type = |record_type| {
            let query = Query::query(name.clone(), record_type);
            self.hosts.lookup_static_host(&query)
        };
        let found = [RecordType::A, RecordType::AAAA].map(of_type);
        let records = found.iter().flatten().flat_map(|found| found.answers());
        records
            .filter_map(|record| host_address(&record.data))
            .collect()
    }

    /// The absolute names that `name` may stand for, in the order in which they are looked up (resolv.conf(5)): a name with
    /// at least `ndots` dots is first looked up as it is.
    pub(super) fn candidates(&self, name: &Name, is_searched: bool) -> Vec<Name> {
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        if name.is_fqdn() || !is_searched {
            return vec![absolute];
        }
        let in_domains = self
            .search
            .iter()
            .filter_map(|domain| name.clone().append_domain(domain).ok());
        let dots = name.iter().count().saturating_sub(1);
        let mut candidates = Vec::from_iter(in_domains);
        candidates.retain(|candidate| *candidate != absolute);
        match dots >= self.ndots {
            true => candidates.insert(0, absolute),
            false => candidates.push(absolute),
        }
        candidates
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut content));
    match read {
        Ok(_) => Ok(content),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
