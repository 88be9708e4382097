//! The configuration as it is said: a strict mirror of the YAML.
//!
//! Only the shape is judged here: which keys there are and where a list, a map or a single value stands. Every single
//! value stays text, so that all wrong ones can be reported together later. Forms that may be short or long
//! (`"0.0.0.0:80"` or `{ address: "0.0.0.0:80", tls: … }`) have visitors of their own, since an untagged enum of serde
//! would lose the line and the column of an error.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Config {
    pub(super) server: Server,
    pub(super) admin: Admin,
    pub(super) access_log: Said<AccessLog>,
    #[serde(deserialize_with = "list")]
    pub(super) listeners: Vec<Form<Listener>>,
    #[serde(deserialize_with = "list")]
    pub(super) trusted_proxies: Vec<String>,
    pub(super) half_close: Said<String>,
    #[serde(deserialize_with = "said_list")]
    pub(super) upgrades: Said<Vec<String>>,
    pub(super) timeouts: Timeouts,
    pub(super) limits: Limits,
    pub(super) headers: Headers,
    pub(super) paths: Paths,
    pub(super) tracing: Said<Tracing>,
    pub(super) routes: Vec<Route>,
    pub(super) pools: Entries<Pool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Server {
    pub(super) threads: Said<String>,
    pub(super) http1: Said<String>,
    pub(super) grace_period: Said<String>,
    pub(super) drain_delay: Said<String>,
    pub(super) pid_file: Said<String>,
    pub(super) control_socket: Said<String>,
    pub(super) upgrade_socket: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Admin {
    pub(super) address: Said<String>,
    pub(super) token_file: Said<String>,
    #[serde(deserialize_with = "list")]
    pub(super) hosts: Vec<String>,
    pub(super) ready: Ready,
    pub(super) metrics: Metrics,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Metrics {
    pub(super) hosts: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Ready {
    pub(super) usable: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct AccessLog {
    pub(super) path: Said<String>,
    pub(super) format: Said<String>,
    pub(super) sample: Vec<Sample>,
    pub(super) buffer: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Sample {
    pub(super) statuses: Said<OneOrMany>,
    pub(super) share: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Listener {
    pub(super) address: Said<String>,
    pub(super) tls: Said<ListenerTls>,
    pub(super) proxy_protocol: Said<ProxyProtocol>,
    #[serde(deserialize_with = "list")]
    pub(super) allow: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) deny: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct ProxyProtocol {
    #[serde(deserialize_with = "list")]
    pub(super) trusted: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct ListenerTls {
    pub(super) certificates: Vec<CertificateFiles>,
    pub(super) http2: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct CertificateFiles {
    pub(super) certificate: Said<String>,
    pub(super) key: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Timeouts {
    pub(super) connect: Said<String>,
    pub(super) read: Said<String>,
    pub(super) write: Said<String>,
    pub(super) idle: Said<String>,
    pub(super) client_head: Said<String>,
    pub(super) client_keepalive: Said<String>,
    pub(super) tunnel: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Limits {
    pub(super) max_in_flight: Said<String>,
    pub(super) head: Said<String>,
    pub(super) target: Said<String>,
    pub(super) fields: Said<String>,
    pub(super) body: Said<String>,
    pub(super) max_connections: Said<String>,
    pub(super) max_connections_per_client: Said<String>,
    pub(super) max_requests_per_connection: Said<String>,
    pub(super) min_body_rate: Said<String>,
    pub(super) rate: Said<Rate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Rate {
    pub(super) requests: Said<String>,
    pub(super) burst: Said<String>,
    pub(super) key: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Headers {
    pub(super) underscores: Said<String>,
    pub(super) via: Said<String>,
    pub(super) client_identity: ClientIdentity,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct ClientIdentity {
    pub(super) drop: Vec<String>,
    pub(super) pass: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Paths {
    pub(super) ambiguous: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Tracing {
    pub(super) sample: Said<String>,
    pub(super) trust_clients: Said<String>,
    pub(super) otlp: Said<Otlp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Otlp {
    pub(super) endpoint: Said<String>,
    pub(super) headers: Entries<String>,
    pub(super) service: Said<String>,
    pub(super) timeout: Said<String>,
    pub(super) interval: Said<String>,
    pub(super) queue: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Route {
    pub(super) host: Said<String>,
    pub(super) path: Said<String>,
    pub(super) pool: Said<String>,
    pub(super) retry: Said<String>,
    #[serde(deserialize_with = "list")]
    pub(super) allow: Vec<String>,
    #[serde(deserialize_with = "list")]
    pub(super) deny: Vec<String>,
    pub(super) rate: Said<Rate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Pool {
    /// `name`, `key` and whatever options the algorithm has.
    pub(super) algorithm: Said<Form<Entries<String>>>,
    #[serde(deserialize_with = "list")]
    pub(super) hosts: Vec<Form<Host>>,
    pub(super) health_check: Said<Form<HealthCheck>>,
    pub(super) host_header: Said<String>,
    pub(super) when_all_down: Said<String>,
    pub(super) retries: Said<Form<Retries>>,
    pub(super) sticky: Said<Form<Sticky>>,
    pub(super) tls: Said<Form<PoolTls>>,
    pub(super) ejection: Said<Form<Ejection>>,
    pub(super) limits: PoolLimits,
    pub(super) slow_start: Said<Form<SlowStart>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Host {
    pub(super) address: Said<String>,
    pub(super) name: Said<String>,
    pub(super) weight: Said<String>,
    pub(super) backup: Said<String>,
    pub(super) max_in_flight: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct HealthCheck {
    pub(super) r#type: Said<String>,
    pub(super) interval: Said<String>,
    pub(super) timeout: Said<String>,
    pub(super) rise: Said<String>,
    pub(super) fall: Said<String>,
    pub(super) initial: Said<String>,
    pub(super) method: Said<String>,
    pub(super) path: Said<String>,
    pub(super) host: Said<String>,
    pub(super) expect: Said<OneOrMany>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Retries {
    pub(super) attempts: Said<String>,
    pub(super) statuses: Said<OneOrMany>,
    pub(super) budget: Said<String>,
    pub(super) min: Said<String>,
    pub(super) deadline: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Sticky {
    pub(super) cookie: Said<String>,
    pub(super) ttl: Said<String>,
    pub(super) secure: Said<String>,
    pub(super) http_only: Said<String>,
    pub(super) same_site: Said<String>,
    pub(super) secret_file: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct PoolTls {
    pub(super) server_name: Said<String>,
    pub(super) verify: Said<String>,
    pub(super) ca: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct Ejection {
    pub(super) failures: Said<OneOrMany>,
    pub(super) consecutive: Said<String>,
    pub(super) rate: Said<String>,
    pub(super) window: Said<String>,
    pub(super) min_requests: Said<String>,
    pub(super) base: Said<String>,
    pub(super) max: Said<String>,
    pub(super) max_ejected: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct PoolLimits {
    pub(super) max_in_flight: Said<String>,
    pub(super) queue: Said<String>,
    pub(super) queue_timeout: Said<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a map")]
pub(super) struct SlowStart {
    pub(super) window: Said<String>,
    pub(super) floor: Said<String>,
}

/// The keys of a pool, to recognise those that were meant to be.
pub(super) const POOL_KEYS: [&str; 11] = [
    "algorithm",
    "hosts",
    "health_check",
    "host_header",
    "when_all_down",
    "retries",
    "sticky",
    "tls",
    "ejection",
    "limits",
    "slow_start",
];

/// A list; a single text is a list of one.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct ListOrText<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for ListOrText<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        // A key with nothing behind it.
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
            Ok(vec![T::deserialize(value.into_deserializer())?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(seq))
        }
    }

    deserializer.deserialize_any(ListOrText(PhantomData))
}

/// A [`list`] that is not the same as none if it is empty.
fn said_list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Said<Vec<T>>, D::Error> {
    list(deserializer).map(|list| Said(Some(list)))
}

/// What stands behind a key, if the key is there.
///
/// An `Option` would take a `tls:` with nothing behind it for a wish of no TLS; here it is an error.
#[derive(Debug)]
pub(super) struct Said<T>(pub(super) Option<T>);

impl<T> Default for Said<T> {
    fn default() -> Self {
        Said(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Said<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Said(Some(value)))
    }
}

/// A map whose keys are free: its entries in the order of the file.
#[derive(Debug)]
pub(super) struct Entries<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Entries(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

/// The visits of everything that stands for itself as text.
macro_rules! visit_text {
    ($made:expr) => {
        fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
            Ok($made(value.to_owned()))
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
            Ok($made(value.to_string()))
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
            Ok($made(value.to_string()))
        }

        fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
            Ok($made(value.to_string()))
        }

        fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
            Ok($made(value.to_string()))
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Err(E::custom(
                "nothing stands here; give a value or leave the key out",
            ))
        }
    };
}

/// A single value as the short form of a map, or the map.
#[derive(Debug)]
pub(super) enum Form<M> {
    /// One value.
    Short(String),
    /// The map.
    Full(M),
}

impl<'de, M: Deserialize<'de>> Deserialize<'de> for Form<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShortOrFull<M>(PhantomData<M>);

        impl<'de, M: Deserialize<'de>> Visitor<'de> for ShortOrFull<M> {
            type Value = Form<M>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a single value or a map")
            }

            visit_text!(Form::Short);

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                M::deserialize(MapAccessDeserializer::new(map)).map(Form::Full)
            }
        }

        deserializer.deserialize_any(ShortOrFull(PhantomData))
    }
}

/// A list of single values, or one of them alone.
#[derive(Debug)]
pub(super) enum OneOrMany {
    /// One value, without a list around it.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AloneOrList;

        impl<'de> Visitor<'de> for AloneOrList {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a single value or a list")
            }

            visit_text!(OneOrMany::One);

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany::Many)
            }
        }

        deserializer.deserialize_any(AloneOrList)
    }
}
