//! `health_check`: the active check of a pool's hosts.

use std::time::Duration;

use http::Method;
use http::uri::{Authority, PathAndQuery};
use serde_json::{Value as Json, json};

use super::document::Node;
use super::hints::quote;
use super::scalars::format_time;
use super::schema::{
    Describe, Diff, Kind, List, Nested, Reader, Scalar, choice, map_of, scalar, section, time,
    whole,
};
use super::status::statuses;

/// A host that needs more results in a row would hardly ever change its state.
const MAX_IN_A_ROW: usize = 1_000;
/// No name of a service is longer, in bytes.
const MAX_SERVICE: usize = 255;
/// The keys of an HTTP check alone.
const HTTP_KEYS: [&str; 3] = ["method", "path", "expect"];

section! {
    /// The keys of a health check.
    pub(super) struct HealthCheckKeys: Eq {
        /// `tcp`: the host takes a connection. `http`: it answers a request, over what `protocol` of the pool says. `grpc`:
        /// its health service (grpc.health.v1) says SERVING, for which the hosts have to speak HTTP/2.
        r#type: ProbeType {
            choice(&[("tcp", ProbeType::Tcp), ("http", ProbeType::Http), ("grpc", ProbeType::Grpc)]),
            default "tcp"
        },
        /// From one check of a host to the next; each is shifted at random by up to a tenth.
        interval: Duration { time(), default "2s" },
        /// For one whole check, at most `interval`. A timeout is no sign against a host that meanwhile answers requests,
        /// nor against any host while the checks of most hosts time out together.
        timeout: Duration { time(), default "1s" },
        /// Successes in a row that bring a host back.
        rise: usize { whole(1..=MAX_IN_A_ROW), default "2" },
        /// Failures in a row that take it out.
        fall: usize { whole(1..=MAX_IN_A_ROW), default "3" },
        /// What a host is before its first check. `unknown`: it serves after its first success. `up`: it serves at once.
        initial: Initial { choice(&[("unknown", Initial::Unknown), ("up", Initial::Up)]), default "unknown" },
        /// HTTP: the method of the request.
        method: Method { method(), conditional "GET" },
        /// HTTP: its path, with a query or not.
        path: PathAndQuery { path(), conditional "/" },
        /// HTTP and gRPC: its Host; without it the host's own host:port, of a Unix socket `localhost`.
        host: Option<String> { host(), optional "api.example.com" },
        /// HTTP: the statuses of a success, one or a list, such as 204 or `[200, 300-399]`.
        expect: Vec<(u16, u16)> { expect(), conditional "[200-399]" },
        /// gRPC: the service that is asked about, such as package.Service; without it the host as a whole.
        service: Option<String> { service(), optional "shop.Orders" },
    }
    check keys_fit;
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
    /// A TCP connection, with TLS if the pool has it.
    Tcp,
    /// An HTTP request.
    Http {
        /// Its method.
        method: Method,
        /// Its path, with a query or not.
        path: PathAndQuery,
        /// Its Host field; `None`: the host's own `host:port`.
        host: Option<String>,
        /// The statuses of a success as ranges, both ends included.
        expect: Vec<(u16, u16)>,
    },
    /// A request to the health service of gRPC.
    Grpc {
        /// The service that is asked about; empty: the host as a whole.
        service: String,
        /// The authority of the request; `None`: the host's own `host:port`.
        host: Option<String>,
    },
}

/// What kind of check it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeType {
    /// A TCP connection.
    Tcp,
    /// An HTTP request.
    Http,
    /// A request to the health service of gRPC.
    Grpc,
}

/// What a host is before its first check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initial {
    /// Not used; the listeners open after the first round of checks.
    Unknown,
    /// Used from the start.
    Up,
}

/// What `health_check: tcp` or `health_check: /healthz` should have been.
pub(super) fn hint(text: &str) -> Option<String> {
    Some(match text {
        "true" | "on" | "yes" | "tcp" => "{ type: tcp }".to_owned(),
        "http" => "{ type: http }".to_owned(),
        "grpc" => "{ type: grpc }".to_owned(),
        "false" | "off" | "no" => "none".to_owned(),
        path if path.starts_with('/') && path.parse::<PathAndQuery>().is_ok() => {
            format!("{{ type: http, path: {path} }}")
        }
        _ => return None,
    })
}

/// The map of a health check.
pub(super) struct HealthCheckKind;

impl Describe for HealthCheckKind {
    fn phrase(&self) -> String {
        map_of::<HealthCheckKeys>().phrase()
    }

    fn schema(&self) -> Json {
        map_of::<HealthCheckKeys>().schema()
    }

    fn nested(&self) -> Option<Nested> {
        map_of::<HealthCheckKeys>().nested()
    }
}

impl Kind for HealthCheckKind {
    type Value = HealthCheck;

    fn read(&self, node: &Node, reader: &mut Reader<'_>) -> Option<HealthCheck> {
        map_of::<HealthCheckKeys>()
            .read(node, reader)
            .map(HealthCheck::from)
    }

    /// Without the keys that checks of other types have.
    fn dump(&self, value: &HealthCheck) -> Json {
        let mut dump = map_of::<HealthCheckKeys>().dump(&value.keys());
        if let Some(map) = dump.as_object_mut() {
            let r#type = value.keys().r#type;
            map.retain(|key, _| owner(key).is_none_or(|(types, _)| types.contains(&r#type)));
        }
        dump
    }

    fn diff(&self, old: &HealthCheck, new: &HealthCheck, diff: &mut Diff) {
        map_of::<HealthCheckKeys>().diff(&old.keys(), &new.keys(), diff);
    }
}

impl From<HealthCheckKeys> for HealthCheck {
    fn from(keys: HealthCheckKeys) -> Self {
        let HealthCheckKeys {
            r#type,
            interval,
            timeout,
            rise,
            fall,
            initial,
            method,
            path,
            host,
            expect,
            service,
        } = keys;
        HealthCheck {
            probe: match r#type {
                ProbeType::Tcp => Probe::Tcp,
                ProbeType::Http => Probe::Http {
                    method,
                    path,
                    host,
                    expect,
                },
                ProbeType::Grpc => Probe::Grpc {
                    service: service.unwrap_or_default(),
                    host,
                },
            },
            interval,
            timeout,
            rise,
            fall,
            initial,
        }
    }
}

impl HealthCheck {
    /// The keys that stand for it.
    fn keys(&self) -> HealthCheckKeys {
        let mut keys = HealthCheckKeys {
            r#type: ProbeType::Tcp,
            interval: self.interval,
            timeout: self.timeout,
            rise: self.rise,
            fall: self.fall,
            initial: self.initial,
            method: Method::GET,
            path: PathAndQuery::from_static("/"),
            host: None,
            expect: vec![(200, 399)],
            service: None,
        };
        match self.probe.clone() {
            Probe::Tcp => {}
            Probe::Http {
                method,
                path,
                host,
                expect,
            } => {
                keys.r#type = ProbeType::Http;
                (keys.method, keys.path, keys.host, keys.expect) = (method, path, host, expect);
            }
            Probe::Grpc { service, host } => {
                (keys.r#type, keys.host) = (ProbeType::Grpc, host);
                keys.service = Some(service).filter(|service| !service.is_empty());
            }
        }
        keys
    }
}

/// The types of checks that a key belongs to, as values and as people call them; `None`: to all.
fn owner(key: &str) -> Option<(&'static [ProbeType], &'static str)> {
    match key {
        "host" => Some((
            &[ProbeType::Http, ProbeType::Grpc],
            "an HTTP or gRPC check; did you mean `type: http` or `type: grpc`?",
        )),
        "service" => Some((
            &[ProbeType::Grpc],
            "a gRPC check; did you mean `type: grpc`?",
        )),
        _ if HTTP_KEYS.contains(&key) => Some((
            &[ProbeType::Http],
            "an HTTP check; did you mean `type: http`?",
        )),
        _ => None,
    }
}

fn keys_fit(check: &mut HealthCheckKeys, map: &Node, reader: &mut Reader<'_>) {
    let HealthCheckKeys {
        interval, timeout, ..
    } = *check;
    if timeout > interval {
        let blamed = if map.get("timeout").is_some() {
            "timeout"
        } else {
            "interval"
        };
        let (timeout, interval) = (format_time(timeout), format_time(interval));
        let message = format!(
            "the timeout of {timeout} is longer than the interval of {interval}; a check must end before the next begins"
        );
        reader.problem_of_key(map, blamed, message);
    }
    for key in map.entries().iter().map(|entry| entry.key.as_str()) {
        if let Some((types, told)) = owner(key)
            && !types.contains(&check.r#type)
        {
            reader.problem_of_key(map, key, format!("`{key}` belongs to {told}"));
        }
    }
}

fn method() -> Scalar<Method> {
    let read = |text: &str| {
        let upper = text.to_ascii_uppercase();
        match Method::from_bytes(text.as_bytes()) {
            Ok(Method::CONNECT) | Err(_) => {
                Err(format!("{} is not a method for a check", quote(text)))
            }
            Ok(_) if upper != text => Err(format!(
                "{} is not in capital letters; did you mean `{upper}`?",
                quote(text)
            )),
            Ok(method) => Ok(method),
        }
    };
    scalar("a method", read, |method: &Method| json!(method.as_str()))
}

fn path() -> Scalar<PathAndQuery> {
    let read = |text: &str| {
        if !text.starts_with('/') {
            return Err(format!("{} does not begin with `/`", quote(text)));
        }
        let path = text.parse::<PathAndQuery>();
        path.map_err(|error| format!("{} is not a path: {error}", quote(text)))
    };
    scalar("a path", read, |path: &PathAndQuery| json!(path.as_str()))
}

fn host() -> Scalar<String> {
    let read = |text: &str| match text.parse::<Authority>() {
        Ok(host) if !text.contains('@') && !host.host().is_empty() => Ok(text.to_owned()),
        _ => Err(format!("{} is not a host name", quote(text))),
    };
    scalar("a host name", read, |host| json!(host))
}

fn service() -> Scalar<String> {
    let read = |text: &str| {
        let is_proper = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
        match !text.is_empty() && text.len() <= MAX_SERVICE && text.chars().all(is_proper) {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "{} is not a name of a service, such as `shop.Orders`",
                quote(text)
            )),
        }
    };
    scalar("a name of a service", read, |service| json!(service))
}

fn expect() -> List<Scalar<(u16, u16)>> {
    statuses().not_empty("no status is expected, so no host could ever be healthy")
}
