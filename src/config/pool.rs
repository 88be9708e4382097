//! `pools`: hosts, the balancer that chooses among them, and its policies.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Map, Value as Json, json};

use super::algorithm::{Algorithm, AlgorithmKind};
use super::consul::ConsulService;
use super::document::{Content, Entry, Node};
use super::ejection::Ejection;
use super::health_check::{self, HealthCheck, HealthCheckKind, Probe};
use super::hints::quote;
use super::host::Host;
use super::host_entry::{self, HostEntry};
use super::host_source::HostSource;
use super::maintenance::Maintenance;
use super::pool_limits::PoolLimits;
use super::pool_tls::PoolTls;
use super::retries::{self, Retries};
use super::scalars;
use super::schema::{
    Describe, Diff, Kind, Nested, Nesting, Reader, Scalar, Section, boolean_hint, choice, file,
    map_of, or_false, or_none, scalar, section,
};
use super::slow_start::SlowStart;
use super::sticky::{self, Sticky};
use super::timeouts::PoolTimeouts;
use super::unix_address::server_name_is_known;
use crate::timestamp::Timestamp;

/// Keeps the comparison of routes and pools short.
const MAX_POOLS: usize = 4_096;

section! {
    /// Hosts, the balancer that chooses among them, and its policies.
    pub struct Pool {
        /// How a host is chosen: a name, or a map with `name` and the algorithm's options, see `ballast algorithms`.
        algorithm: Algorithm { AlgorithmKind, default "p2c" },
        /// The servers, each as host:port, as unix:/path or as a map.
        hosts: Vec<HostEntry> { host_entry::hosts(), default "[]" },
        /// A file with further hosts, taken in whenever it changes: YAML or JSON as under `hosts`, or a host:port on each line.
        hosts_file: Option<PathBuf> { hosts_file(), optional "/etc/ballast/web.hosts" },
        /// Further hosts: the keys in etcd that begin with this, of the server of `discovery.etcd`. Each value is a host:port, or
        /// JSON as under `hosts`.
        etcd: Option<String> { etcd_prefix(), optional "/services/web/" },
        /// Further hosts: the instances of a service in Consul.
        consul: Option<ConsulService> { map_of::<ConsulService>().short_for("service"), optional "web" },
        /// How a host is found to work or to fail; `none`: no check.
        health_check: Option<HealthCheck> { or_none(HealthCheckKind, health_check::hint), default "{}" },
        /// The Host field that hosts see. `preserve`: the client's. `upstream`: their own host:port, of a Unix socket `localhost`.
        host_header: HostHeader {
            choice(&[
                ("preserve", HostHeader::Preserve),
                ("upstream", HostHeader::Upstream),
            ]),
            default "preserve"
        },
        /// What happens while no host works. `error`: clients get 503. `try_all`: all hosts are tried.
        when_all_down: WhenAllDown {
            choice(&[
                ("error", WhenAllDown::Error),
                ("try_all", WhenAllDown::TryAll),
            ]),
            default "error"
        },
        /// When a request that a host failed is sent to another one; `none`: never. A request of which something has been sent
        /// goes out again only if its method is idempotent (or the route says `retry: any_method`), the client has got
        /// nothing yet, and the part of the body that came fits into 64 KiB.
        retries: Option<Retries> { or_none(map_of::<Retries>(), retries::hint), default "{}" },
        /// A cookie that keeps a client with its host; `none`: no cookie. Its value is an authenticated token, not the
        /// host's address. If the host is gone, failing, draining or full, another one takes its place, and the cookie
        /// changes.
        sticky: Option<Sticky> { or_none(map_of::<Sticky>(), sticky::hint), default "none" },
        /// A host that fails requests gets none for a while, is then tried with one request, and comes back by slow_start;
        /// `none`: never. The last usable host stays, whatever it does.
        ejection: Option<Ejection> { or_none(map_of::<Ejection>(), boolean_hint), default "{}" },
        /// Requests at the same time. Another host is chosen while one is full; while all are full, requests wait.
        limits: PoolLimits { map_of::<PoolLimits>(), default "{}" },
        /// What differs from the top level's `timeouts` for requests to this pool.
        timeouts: PoolTimeouts { map_of::<PoolTimeouts>(), default "{}" },
        /// Hosts that recover, are no longer drained or are added by a reload come to their share of requests slowly; `none`:
        /// at once. Not for consistent_hash, bounded and ip_hash, which send keys where they belong.
        slow_start: Option<SlowStart> { or_none(map_of::<SlowStart>(), boolean_hint), default "{}" },
        /// TLS to the hosts; `true`: with its defaults. Connections of HTTP/1.1 resume the sessions of earlier ones until a reload,
        /// except with `http1: pingora`.
        tls: Option<PoolTls> { or_false(map_of::<PoolTls>()), default "false" },
        /// What hosts speak. `http2`: HTTP/2 over TLS. `h2c`: HTTP/2 without TLS, from the first byte on. `auto`: HTTP/2 or
        /// HTTP/1.1, as each host chooses in the TLS handshake. Requests share connections of HTTP/2, and further ones are
        /// opened as needed. Upgrades such as WebSocket need HTTP/1.1, which `auto` uses for them, whatever the client speaks.
        protocol: Protocol {
            choice(&[
                ("http1", Protocol::Http1),
                ("http2", Protocol::Http2),
                ("h2c", Protocol::H2c),
                ("auto", Protocol::Auto),
            ]),
            default "http1"
        },
        /// Whether each connection to a host begins with a PROXY header, and its version; hosts have to expect it. It says
        /// which client the connection is for, and to which address the client has connected; `v2` also says what is known
        /// of the client's TLS: version, cipher, protocol (ALPN), server name, and the name (CN) in its certificate. Clients
        /// then share no connections to hosts. The client is that of the connection, as a PROXY header from a trusted load
        /// balancer names it, and not what X-Forwarded-For says. Health checks send `PROXY UNKNOWN` or LOCAL.
        proxy_protocol: Option<ProxyProtocolVersion> {
            choice(&[
                ("none", None),
                ("v1", Some(ProxyProtocolVersion::V1)),
                ("v2", Some(ProxyProtocolVersion::V2)),
            ]),
            default "none"
        },
        /// Whether clients get 503 with Retry-After instead of being sent to a host; `true`: with its defaults. Health checks go
        /// on. `ballast maintenance` turns it on and off at run time.
        maintenance: Option<Maintenance> { or_false(map_of::<Maintenance>()), default "false" },
        .. {
            /// The name in the file.
            name: String = String::new(),
            /// The hosts: those of the file, what sources have told, and what operators have added.
            members: Vec<Host> = Vec::new(),
            /// Hosts of the file that an operator has removed since, and when.
            removed: Vec<(Host, Timestamp)> = Vec::new(),
        }
    }
    check parts_fit;
}

/// Checks what keys mean together, and fills the list of the hosts that are known so far.
fn parts_fit(pool: &mut Pool, map: &Node, reader: &mut Reader<'_>) {
    pool.members = pool.hosts.iter().filter_map(HostEntry::host).collect();
    if pool.hosts.is_empty()
        && pool.hosts_file.is_none()
        && pool.etcd.is_none()
        && pool.consul.is_none()
    {
        reader.problem_of_key(map, "hosts", "the pool has no hosts");
    }
    protocol_fits(pool, map, reader);
}

/// Reports a protocol that needs TLS in a pool without `tls`, and one without TLS in a pool with `tls`.
fn protocol_fits(pool: &mut Pool, map: &Node, reader: &mut Reader<'_>) {
    check_fits(pool, map, reader);
    server_name_is_known(pool, map, reader);
    let message = match (pool.protocol, &pool.tls) {
        (Protocol::Http2, None) => "HTTP/2 needs `tls: true`; without TLS it is `protocol: h2c`",
        (Protocol::Auto, None) => {
            "hosts choose their protocol in the TLS handshake; set `tls: true`, or `protocol: h2c` or `http1`"
        }
        (Protocol::H2c, Some(_)) => "h2c is HTTP/2 without TLS; with `tls` it is `protocol: http2`",
        _ => return,
    };
    reader.problem_of_key(map, "protocol", message);
}

/// Reports a check by gRPC of hosts that do not speak HTTP/2.
fn check_fits(pool: &Pool, map: &Node, reader: &mut Reader<'_>) {
    let check = pool.health_check.as_ref().map(|check| &check.probe);
    if matches!(check, Some(Probe::Grpc { .. })) && !pool.protocol.may_be_http2() {
        let message =
            "gRPC needs hosts of HTTP/2; set `protocol: h2c`, or `http2` with `tls: true`";
        reader.problem_of_key(map, "health_check", message);
    }
}

/// What the hosts of a pool speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 over TLS.
    Http2,
    /// HTTP/2 without TLS, with prior knowledge.
    H2c,
    /// HTTP/2 or HTTP/1.1, as the host chooses in the TLS handshake.
    Auto,
}

impl Protocol {
    /// Whether requests may be sent over HTTP/2.
    pub fn may_be_http2(self) -> bool {
        self != Protocol::Http1
    }

    /// Whether requests may be sent over HTTP/1.1.
    pub fn may_be_http1(self) -> bool {
        matches!(self, Protocol::Http1 | Protocol::Auto)
    }
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProxyProtocolVersion {
    /// A line of text.
    V1,
    /// Binary, with more than addresses.
    V2,
}

/// The path of a file with hosts, which need not be there yet.
fn hosts_file() -> Scalar<PathBuf> {
    file("the path of a file", |path, _| Ok(path), |path| json!(path))
}

fn etcd_prefix() -> Scalar<String> {
    let read = |text: &str| match text.is_empty() || text.chars().any(char::is_control) {
        true => Err(format!("{} is not the beginning of keys", quote(text))),
        false => Ok(text.to_owned()),
    };
    scalar("the beginning of keys", read, |prefix| json!(prefix))
}

impl Pool {
    /// The sources of hosts that are not elements of `hosts`. Their hosts have the settings of
    /// [`with_limit`](super::host_entry::HostSettings::with_limit).
    pub fn further_sources(&self) -> impl Iterator<Item = HostSource> {
        let file = self.hosts_file.clone().map(HostSource::File);
        let etcd = self.etcd.clone().map(HostSource::Etcd);
        let consul = self.consul.clone().map(HostSource::Consul);
        [file, etcd, consul].into_iter().flatten()
    }

    /// All sources of its hosts.
    pub fn sources(&self) -> impl Iterator<Item = HostSource> {
        let of_entries = self.hosts.iter().filter_map(HostEntry::source);
        of_entries.chain(self.further_sources())
    }

    /// Whether a pool has the same settings but for `maintenance`, for which nothing has to be built anew.
    pub(crate) fn is_built_as(&self, other: &Pool) -> bool {
        let built = |pool: &Pool| Pool {
            maintenance: None,
            ..pool.clone()
        };
        self.name == other.name && built(self) == built(other)
    }
}

/// What the host sees as Host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostHeader {
    /// What the client sent.
    Preserve,
    /// The host's own `host:port`, as in the file; `localhost` for a Unix socket.
    Upstream,
}

/// What happens while no host of a pool is usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAllDown {
    /// The client gets 503.
    Error,
    /// All hosts are tried as if they were healthy.
    TryAll,
}

/// The host names that have to be resolved, in lower case.
pub(super) fn names_to_resolve(root: &Node) -> BTreeSet<String> {
    let pools = root.get("pools").map(Node::entries).unwrap_or_default();
    let hosts = pools.iter().filter_map(|pool| pool.value.get("hosts"));
    let hosts = hosts.flat_map(|hosts| match hosts.content {
        Content::List(_) => hosts.elements(),
        _ => std::slice::from_ref(hosts),
    });
    hosts.filter_map(host_entry::name_to_resolve).collect()
}

/// The names of the pools, whether they can be read or not.
pub(super) fn names(root: &Node) -> Vec<String> {
    let entries = root.get("pools").map(Node::entries).unwrap_or_default();
    let displaced = displaced_keys(entries);
    let names = entries.iter().map(|entry| &entry.key);
    let is_displaced = |name: &&String| displaced.iter().any(|(key, _)| key == *name);
    names.filter(|name| !is_displaced(name)).cloned().collect()
}

/// A map of pools, whose names are free.
pub(super) struct Pools;

impl Describe for Pools {
    fn phrase(&self) -> String {
        "a map of pools".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "object", "additionalProperties": map_of::<Pool>().schema() })
    }

    fn nested(&self) -> Option<Nested> {
        let nested = map_of::<Pool>().nested()?;
        Some(Nested {
            nesting: Nesting::Named,
            ..nested
        })
    }
}

impl Kind for Pools {
    type Value = Vec<Pool>;

    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<Vec<Pool>> {
        if !matches!(node.content, Content::Map(_) | Content::Null) {
            reader.wrong_type(node, "a map");
            return None;
        }
        let entries = node.entries();
        if entries.is_empty() {
            reader.problem(
                node,
                "there is no pool; requests need hosts to be sent to, such as `pools: { web: { hosts: [\"127.0.0.1:8081\"] } }`",
            );
        }
        if entries.len() > MAX_POOLS {
            let count = entries.len();
            reader.problem(
                node,
                format!("there are {count} pools; the limit is {MAX_POOLS}"),
            );
            return None;
        }
        let displaced = displaced_keys(entries);
        let pools = entries.iter().filter_map(|entry| {
            let Entry { key, value, .. } = entry;
            reader.in_key(key, |reader| {
                if let Some((_, owner)) = displaced.iter().find(|(name, _)| name == key) {
                    let message = format!(
                        "{} is indented too little: it belongs to the pool {}",
                        quote(key),
                        quote(owner)
                    );
                    reader.problem(value, message);
                    return None;
                }
                if value.is_null() && displaced.iter().any(|(_, owner)| owner == key) {
                    return None;
                }
                reader.take(value, proper_name(key));
                read_pool(key, value, reader)
            })
        });
        Some(pools.collect())
    }

    fn dump(&self, value: &Vec<Pool>) -> Json {
        let pools = value.iter();
        let pools = pools.map(|pool| (pool.name.clone(), map_of::<Pool>().dump(pool)));
        Json::Object(Map::from_iter(pools))
    }

    fn diff(&self, old: &Vec<Pool>, new: &Vec<Pool>, diff: &mut Diff) {
        let names = |pools: &[Pool]| Vec::from_iter(pools.iter().map(|pool| pool.name.clone()));
        diff.compare_named(
            (&names(old), old),
            (&names(new), new),
            true,
            |old, new, diff| {
                map_of::<Pool>().diff(old, new, diff);
            },
        );
    }
}

fn read_pool(name: &str, node: &Node, reader: &mut Reader<'_>) -> Option<Pool> {
    let limit = node
        .get("limits")
        .and_then(|limits| limits.get("max_in_flight"));
    let limit = limit.and_then(|limit| scalars::whole(limit.text()?, 1..=u64::MAX).ok());
    reader.pool_max_in_flight = limit;
    let mut pool = map_of::<Pool>().read(node, reader)?;
    name.clone_into(&mut pool.name);
    Some(pool)
}

/// Keys of a pool that stand beside the pool, each with the pool that it belongs to: the last one before it, which is
/// empty.
fn displaced_keys(entries: &[Entry]) -> Vec<(String, String)> {
    let keys = Pool::keys();
    let is_key = |entry: &Entry| keys.iter().any(|key| key.name == entry.key);
    let mut owner = None;
    let mut displaced = Vec::new();
    for entry in entries {
        match (is_key(entry), owner) {
            (false, _) => owner = entry.value.is_null().then_some(&entry.key),
            (true, Some(owner)) => displaced.push((entry.key.clone(), owner.clone())),
            (true, None) => {}
        }
    }
    displaced
}

/// Names go into logs, labels and commands, so they are kept to what needs no quotes there.
fn proper_name(name: &str) -> Result<(), String> {
    let is_proper = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !name.is_empty() && name.chars().all(is_proper) {
        return Ok(());
    }
    Err(format!(
        "{} is not a name of a pool: letters, digits, `_`, `-` and `.`",
        quote(name)
    ))
}
