//! The configuration as it is meant: every value checked, nothing left to interpret.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::HeaderName;
use http::uri::PathAndQuery;
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use super::access::Access;
use super::access_log::AccessLog;
use super::policies::{Ejection, PoolLimits, SlowStart};
use super::tracing::Tracing;
use crate::balancer::{AlgorithmInfo, HostId, Options};
use crate::moment::Moment;

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The SHA-256 of the file's text, in hexadecimal.
    pub digest: String,
    /// The process itself.
    pub server: Server,
    /// What is told about the process over TCP.
    pub admin: Admin,
    /// What is written about each request; `None`: nothing.
    pub access_log: Option<AccessLog>,
    /// Addresses that clients connect to; at least one, no two alike.
    pub listeners: Vec<Listener>,
    /// Networks whose X-Forwarded-* fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What becomes of a request whose client ends its sending side before the answer has ended.
    pub half_close: HalfClose,
    /// Protocols that a connection may be upgraded to, no two alike: a token, and a version behind `/` if it has one.
    pub upgrades: Vec<Arc<str>>,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// How much there may be of anything.
    pub limits: Limits,
    /// What becomes of header fields on the way.
    pub headers: Headers,
    /// How the paths of requests are read.
    pub paths: Paths,
    /// Distributed traces; `None`: what clients say of theirs passes as it came.
    pub tracing: Option<Tracing>,
    /// Which requests go to which pool; the first route that matches wins. At least one.
    pub routes: Vec<Route>,
    /// The pools in the order of the file; at least one.
    pub pools: Vec<Pool>,
}

/// `server`: the process itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Threads that serve requests, at least 1. `threads: 0` in the file has become the number of cores.
    pub threads: usize,
    /// What drives requests of HTTP/1.1.
    pub http1: Http1,
    /// How long a stopping process lets its requests run on.
    pub grace_period: Duration,
    /// How long a process that is told to stop goes on as before, except that it says it is not ready.
    pub drain_delay: Duration,
    /// Where the process writes its id; `None`: the runtime directory.
    pub pid_file: Option<PathBuf>,
    /// The Unix socket for commands to the process; `None`: the runtime directory.
    pub control_socket: Option<PathBuf>,
    /// The Unix socket that a successor gets the listeners from; `None`: the runtime directory.
    pub upgrade_socket: Option<PathBuf>,
}

/// `server.http1`: what drives requests of HTTP/1.1 from clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http1 {
    /// The engine.
    Engine,
    /// Pingora.
    Pingora,
}

/// `admin`: what is told about the process over TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where to listen; `None`: nowhere. Not one of the listeners.
    pub address: Option<SocketAddr>,
    /// What whoever wants to change something there has to know; `None`: nobody can.
    pub token: Option<Secret>,
    /// Names that it may be asked by, lower case, beside IP addresses and localhost.
    pub hosts: Vec<String>,
    /// Usable hosts that each pool must have before the process says that it is ready.
    pub ready_usable: usize,
    /// How much the metrics tell of each host.
    pub host_metrics: HostMetrics,
}

/// How much the metrics tell of each host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostMetrics {
    /// Everything while there are few hosts, else little (default).
    #[default]
    Auto,
    /// Statuses, reasons and durations by host: some 100 lines each.
    Full,
    /// Less than 10 lines for each host; statuses, reasons and durations are those of the pool.
    Brief,
}

/// An address that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where to listen.
    pub address: SocketAddr,
    /// TLS towards clients, if any.
    pub tls: Option<ListenerTls>,
    /// Who may connect, by the address at the other end of the connection or the one that a PROXY header announces.
    pub access: Access,
    /// Who connects on behalf of clients, and says so with a header of the PROXY protocol; `None`: nobody.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Who announces clients with the PROXY protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Networks of the proxies, at least one. Nobody else may connect.
    pub trusted: Vec<IpNet>,
}

impl ProxyProtocol {
    /// Whether what `peer` announces is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|network| network.contains(&peer))
    }
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one; the client's SNI chooses, and the first serves those without or with an unknown one.
    pub certificates: Vec<Certificate>,
    /// Whether clients may choose HTTP/2.
    pub http2: bool,
}

/// A certificate chain and its key, which fit each other. Relative paths of the file have got the directory of the
/// configuration in front. Two are equal if the files are the same and the chain in them is.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The PEM file of the chain, the server's own certificate first.
    pub chain_file: PathBuf,
    /// The PEM file of the private key.
    pub key_file: PathBuf,
    /// What was in them.
    pub certified: Arc<CertifiedKey>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        let parts = |this: &Self| (this.chain_file.clone(), this.key_file.clone());
        parts(self) == parts(other) && self.certified.cert == other.certified.cert
    }
}

impl Eq for Certificate {}

/// `half_close`: what the end of a client's sending side means before the answer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfClose {
    /// The client has left: its request ends.
    Abort,
    /// The client still reads: its request is served to the end.
    Serve,
}

/// `timeouts`: all of them are finite and above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Making a connection to a host, TLS included.
    pub connect: Duration,
    /// The longest silence of a host that owes an answer, and of a client that owes the rest of a request.
    pub read: Duration,
    /// The longest time that a write to a host or a client may stall.
    pub write: Duration,
    /// How long an unused connection to a host is kept.
    pub idle: Duration,
    /// From the first byte of a request's head to its last; for the first request of a connection from its beginning, and
    /// for a TLS handshake as well.
    pub client_head: Duration,
    /// How long a client's connection may be silent between two requests.
    pub client_keepalive: Duration,
    /// The longest silence of both sides of a WebSocket or another upgraded connection.
    pub tunnel: Duration,
}

/// `limits`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests in the whole process at once; beyond it 503. `None`: no limit.
    pub max_in_flight: Option<u64>,
    /// Bytes of a message's head, from its first byte to the end of the empty line: beyond it a request gets 431, and
    /// 502 stands for an answer.
    pub head: usize,
    /// Bytes of a request's target; beyond it 414.
    pub target: usize,
    /// Field lines of a message's head; beyond it a request gets 431, and 502 stands for an answer.
    pub fields: usize,
    /// Bytes of a request's body; beyond it 413. `None`: no limit.
    pub body: Option<u64>,
    /// Clients' connections at once; beyond it none is accepted until one ends. `None`: what the process's limit of
    /// descriptors leaves room for.
    pub max_connections: Option<u64>,
    /// Connections of one client address (an IPv6 network of 64 bits) at once; beyond it a connection is closed at once.
    /// `None`: no limit.
    pub max_connections_per_client: Option<u64>,
    /// Requests on one connection, the last of which is told that it is. `None`: no limit.
    pub max_requests_per_connection: Option<u64>,
    /// Bytes per second at which a request's body must arrive on average. `None`: no limit.
    pub min_body_rate: Option<u64>,
    /// How many requests a client may send, whatever they are for. `None`: no limit.
    pub rate: Option<Rate>,
}

/// `headers`: what becomes of header fields on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// What becomes of a request's fields with `_` in their names.
    pub underscores: Underscores,
    /// The name of this proxy in the Via field of requests and answers, a token; `None`: it leaves no Via.
    pub via: Option<String>,
    /// Fields by which a client could lie about itself.
    pub client_identity: ClientIdentity,
}

/// `headers.client_identity`: what peers outside of `trusted_proxies` may say about themselves, beside the fields that
/// are always dropped or never.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Further fields that are dropped.
    pub drop: Vec<HeaderName>,
    /// Fields that pass although they would be dropped.
    pub pass: Vec<HeaderName>,
}

/// `paths`: how the paths of requests are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Paths {
    /// What becomes of a request whose path hosts read in several ways.
    pub ambiguous: Ambiguous,
}

/// What becomes of a request whose path hosts read in several ways, such as `/a%2fb`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ambiguous {
    /// It gets 400 if a route for its host, whatever the path, has `allow`, `deny` or `rate` (default).
    #[default]
    Auto,
    /// It gets 400.
    Reject,
    /// It passes.
    Pass,
}

/// What becomes of a request's fields with `_` in their names. To many applications `X_Real_IP` is the same as
/// `X-Real-IP`, so the one could stand in for the other behind our back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underscores {
    /// They do not reach the host (default).
    Drop,
    /// They are passed on.
    Pass,
}

/// How many requests there may be of one kind; beyond it 429.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second in the long run.
    pub requests: NonZeroU32,
    /// Requests at once after a silence.
    pub burst: NonZeroU32,
    /// What makes two requests one kind.
    pub key: RateKey,
}

/// What makes two requests one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateKey {
    /// The client's address (default); of IPv6 the first 64 bits, which is what one client is given.
    ClientIp,
    /// A header field's value; requests without it are of the kind of their client's address.
    Header(HeaderName),
}

/// Which requests go to which pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The host name that the request must be for, lower case, without port; `*.` in front stands for any subdomain.
    pub host: Option<String>,
    /// What the request's path must begin with, in whole segments; in the normal form of paths.
    pub path: Option<String>,
    /// Index into [`Config::pools`].
    pub pool: usize,
    /// Which requests may be sent a second time although a host may have got them.
    pub retry: Retry,
    /// Whose requests are served, by the client's address; others get 403.
    pub access: Access,
    /// How many requests a client may send here. `None`: no limit.
    pub rate: Option<Rate>,
}

/// Which requests may be sent a second time although a host may have got them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Retry {
    /// Those whose method has the same effect twice as once (default).
    #[default]
    Idempotent,
    /// All of them: whoever answers them can tell a second time from a first.
    AnyMethod,
}

/// Whether `path` begins with the segments of `prefix`: `/v1` is the beginning of `/v1` and `/v1/x`, not of `/v10`, and
/// `/v1/` only of what is below it.
pub(crate) fn begins_with_segments(path: &[u8], prefix: &[u8]) -> bool {
    match path.strip_prefix(prefix) {
        None => false,
        Some(rest) => {
            prefix.is_empty() || prefix.ends_with(b"/") || matches!(rest, [] | [b'/', ..])
        }
    }
}

/// Hosts, the balancer that chooses among them, and its policies.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// The name in the file.
    pub name: String,
    /// How a host is chosen.
    pub algorithm: Algorithm,
    /// At least one, no two of the same identity.
    pub hosts: Vec<Host>,
    /// Hosts of the file that an operator has removed since, and when.
    pub removed: Vec<(Host, Moment)>,
    /// The active check; `None` after `health_check: none`.
    pub health_check: Option<HealthCheck>,
    /// What the host sees as Host.
    pub host_header: HostHeader,
    /// What happens while no host is usable.
    pub when_all_down: WhenAllDown,
    /// When a request is sent again; `None` after `retries: none`.
    pub retries: Option<Retries>,
    /// The cookie that keeps a client with its host, if any.
    pub sticky: Option<Sticky>,
    /// TLS towards the hosts, if any.
    pub tls: Option<PoolTls>,
    /// When a host that fails requests gets none for a while; `None` after `ejection: none`.
    pub ejection: Option<Ejection>,
    /// How many requests may wait for a host.
    pub limits: PoolLimits,
    /// How hosts that are new or back come to their share; `None` after `slow_start: none`.
    pub slow_start: Option<SlowStart>,
}

/// How a host is chosen.
#[derive(Debug, Clone)]
pub struct Algorithm {
    /// The entry of the registry.
    pub info: &'static AlgorithmInfo,
    /// Its options; they have been checked.
    pub options: Options,
    /// What a hashing algorithm hashes.
    pub key: KeySource,
}

impl PartialEq for Algorithm {
    /// As it is said in the file: an option that is said and one that is left out differ, even if it is the default.
    fn eq(&self, other: &Self) -> bool {
        let said = |this: &Self| {
            let options = this.options.names();
            Vec::from_iter(
                options.map(|name| (name.to_owned(), this.options.text(name).map(str::to_owned))),
            )
        };
        self.info.name == other.info.name && self.key == other.key && said(self) == said(other)
    }
}

/// Where a request's hash key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The client's address without the port (default).
    ClientIp,
    /// A header field's value.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(String),
    /// A query parameter's value, as it stands in the request.
    Query(String),
    /// The path without the query.
    Path,
    /// The path with the query.
    Uri,
}

impl fmt::Display for KeySource {
    /// As it is said in the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::ClientIp => f.write_str("client_ip"),
            KeySource::Header(name) => write!(f, "header:{name}"),
            KeySource::Cookie(name) => write!(f, "cookie:{name}"),
            KeySource::Query(name) => write!(f, "query:{name}"),
            KeySource::Path => f.write_str("path"),
            KeySource::Uri => f.write_str("uri"),
        }
    }
}

/// A server that requests are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The `host:port` of the file, as written.
    pub id: HostId,
    /// The name or address in front of the port: names in lower case, IPv6 addresses without brackets.
    pub name: String,
    /// What people call it; `None`: by its `id`.
    pub label: Option<String>,
    /// What `id` resolved to when the file was loaded; the first address if there are several.
    pub address: SocketAddr,
    /// 0 to 10,000; 0: the host is drained.
    pub weight: u32,
    /// The weight in the file, where an operator may have set another; `None` for a host that an operator has added.
    pub file_weight: Option<u32>,
    /// Used only while no other host is usable.
    pub backup: bool,
    /// Requests on this host at once; `None`: no limit. What the file says for the whole pool stands here, too.
    pub max_in_flight: Option<u64>,
}

/// The active check of a pool's hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is tried.
    pub probe: Probe,
    /// From one check of a host to the next; each is shifted at random by up to a tenth.
    pub interval: Duration,
    /// For one whole check. At most `interval`.
    pub timeout: Duration,
    /// Successes in a row that make a host healthy; at least 1.
    pub rise: usize,
    /// Failures in a row that make it unhealthy; at least 1.
    pub fall: usize,
    /// What a host is before its first check.
    pub initial: Initial,
}

/// What a health check tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A TCP connection (with TLS if the pool has it).
    Tcp,
    /// An HTTP request.
    Http {
        /// GET unless said otherwise.
        method: Method,
        /// `/` unless said otherwise.
        path: PathAndQuery,
        /// The Host field; the host's own `host:port` unless said otherwise.
        host: Option<String>,
        /// Accepted status codes as ranges, both ends included; 200 to 399 unless said otherwise.
        expect: Vec<(u16, u16)>,
    },
}

/// What a host is before its first check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// Not used; the listeners open after the first round of checks (default).
    Unknown,
    /// Used from the start.
    Up,
}

/// What the host sees as Host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostHeader {
    /// What the client sent (default).
    Preserve,
    /// The host's own `host:port`, as in the file.
    Upstream,
}

/// What happens while no host of a pool is usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAllDown {
    /// The client gets 503 (default).
    Error,
    /// All hosts are tried as if they were healthy.
    TryAll,
}

/// When a request that failed is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// How often at most, the first time not counted; at least 1.
    pub attempts: usize,
    /// Answers after which another host is asked, as ranges of statuses, both ends included; may be empty.
    pub statuses: Vec<(u16, u16)>,
    /// How many retries there may be for a hundred requests.
    pub budget: u32,
    /// Retries at a time that need no budget.
    pub min: u32,
    /// From the first attempt to the beginning of the last.
    pub deadline: Duration,
}

impl Retries {
    /// A request that so many hosts have failed will not be served by one more.
    pub const MOST_ATTEMPTS: usize = 10;

    /// Whether another host is asked after an answer with this status.
    pub fn names(&self, status: u16) -> bool {
        let mut ranges = self.statuses.iter();
        ranges.any(|(low, high)| (*low..=*high).contains(&status))
    }
}

/// The cookie that keeps a client with its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// Its name.
    pub cookie: String,
    /// How long it keeps a client that sends no request; at least a second.
    pub ttl: Duration,
    /// Whether browsers send it over TLS only.
    pub secure: Secure,
    /// Whether it is kept from scripts.
    pub http_only: bool,
    /// When browsers send it with requests that other sites cause.
    pub same_site: SameSite,
    /// What its value is authenticated with; `None`: a random key of the process and its successors.
    pub secret: Option<Secret>,
}

/// Whether a cookie bears `Secure`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secure {
    /// If the client's request came over TLS (default).
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The `SameSite` of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Never with a request that another site causes.
    Strict,
    /// With those that take the user here (default).
    Lax,
    /// With all of them.
    None,
}

/// Bytes that nobody else knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The file; as with [`Certificate`], the path has got its directory.
    pub file: PathBuf,
    /// What was in it, without white space at its end.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the bytes.
        f.debug_tuple("Secret").field(&self.file).finish()
    }
}

/// TLS towards the hosts of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolTls {
    /// The server name that is asked for and verified; the host's own name unless said otherwise.
    pub server_name: Option<String>,
    /// Whether the certificate must be valid (default) or is taken as it is.
    pub verify: bool,
    /// Authorities that are trusted instead of the system's.
    pub ca: Option<Authorities>,
}

/// Certificates of authorities, at least one, each of which can be a trust anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// The PEM file; as with [`Certificate`], the path has got its directory.
    pub file: PathBuf,
    /// What was in it.
    pub certificates: Vec<CertificateDer<'static>>,
}
