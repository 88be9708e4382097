//! The configuration: from a YAML file to values that need no further checks.
//!
//! `yaml` reads a file into a tree of values with positions, which `document` defines. `sources` makes one tree of all
//! files: `include` finds them, `merge` joins them, and `substitute` puts variables in their places. `schema` says how keys are declared;
//! each of the other files declares the keys of one section, with the checks that compare keys with each other, beginning
//! with `root`. `reference` writes what the declarations say for people and editors.

mod access;
mod access_log;
mod acme;
mod admin;
mod algorithm;
mod certificates;
mod client_certificates;
mod compression;
mod der;
mod document;
mod effective;
mod ejection;
mod environment;
mod error_pages;
mod errors;
mod field_name;
mod fields_file;
mod headers;
mod health_check;
mod hints;
mod host;
mod include;
mod limits;
mod listener;
mod load;
mod maintenance;
mod merge;
mod page;
mod password_file;
mod paths;
mod pattern;
mod pem;
mod pool;
mod pool_limits;
mod pool_tls;
mod rate;
mod reference;
mod retries;
mod root;
mod route;
mod scalars;
mod schema;
mod secret;
mod server;
mod share;
mod slow_start;
mod sources;
mod status;
mod sticky;
mod substitute;
mod template;
mod timeouts;
mod tls_policy;
mod tracing;
mod unix_address;
mod upgrades;
mod url;
mod warnings;
mod yaml;

pub use access::Access;
pub use access_log::{AccessLog, LogFormat, LogTarget, Sample};
pub use acme::{Acme, AcmeChallenge};
pub use admin::{Admin, AdminMetrics, HostMetrics, Ready};
pub use algorithm::{Algorithm, KeySource};
pub use certificates::{Certificate, CertificatePair, CertificateSource, OcspResponse, Validity};
pub use client_certificates::{CertificateMode, ClientCertificates, RevocationLists};
pub use compression::{Compression, ContentCoding, MediaPattern, RouteCompression};
pub use effective::{EffectiveScope, EffectiveValue};
pub use ejection::{Ejection, Failures};
pub use environment::{Environment, System};
pub use error_pages::ErrorPages;
pub use errors::ConfigErrors;
pub use field_name::FieldName;
pub use fields_file::FieldsFile;
pub use headers::{ClientIdentity, Headers, Underscores};
pub use health_check::{HealthCheck, Initial, Probe};
pub use host::Host;
pub use limits::{Limits, RouteLimits};
pub use listener::{CleartextHttp2, Listener, ListenerTls, ProxyProtocol};
pub use load::control_socket;
pub use maintenance::Maintenance;
pub(crate) use page::is_json;
pub use page::{Page, PageFile};
pub use password_file::PasswordFile;
pub(crate) use password_file::PasswordHash;
pub use paths::{Ambiguous, Paths};
pub use pattern::{RegexPattern, ValuePattern};
pub use pool::{HostHeader, Pool, Protocol, ProxyProtocolVersion, WhenAllDown};
pub use pool_limits::PoolLimits;
pub use pool_tls::{Authorities, PoolTls, ShownCertificate, ShownIdentity, ShownKey};
pub use rate::{Period, Rate, RateKey};
pub use reference::{json_schema, key_table, manual_page, reference_file};
pub use retries::{Retries, RouteRetries};
pub use root::{Config, HalfClose};
pub(crate) use route::begins_with_segments;
pub use route::{
    Action, Authentication, BasicAuth, ForwardAuth, HeaderEdits, Mirror, PathPattern, PathRewrite,
    PoolRef, PoolShare, Redirect, RequestConditions, Respond, Retry, Route, RouteAction,
    RouteMatch,
};
pub use schema::{Change, ChangeKind};
pub use secret::Secret;
pub use server::{Http1, Server};
pub use share::Share;
pub use slow_start::SlowStart;
pub use sticky::{SameSite, Secure, Sticky};
pub use template::{Template, Variable};
pub use timeouts::{PoolTimeouts, RouteTimeouts, Timeouts};
pub use tls_policy::{SessionTickets, TlsProfile, TlsVersion};
pub use tracing::{Otlp, Tracing};
pub use url::Endpoint;
