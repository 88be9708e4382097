//! The configuration: YAML as said → typed as meant.
//!
//! A file goes through three steps. `place` judges what holds for any document (no key twice, no unbounded aliases);
//! `yaml` mirrors the shape and refuses unknown keys; `meaning` turns what is said into the types of `model`, whose
//! values need no further checks, and collects everything that is wrong.

mod access;
mod access_log;
mod errors;
mod load;
mod meaning;
mod model;
mod place;
mod policies;
mod shape;
mod surroundings;
mod told;
mod tracing;
mod warnings;
mod words;
mod yaml;

pub use access::Access;
pub use access_log::{AccessLog, LogFormat, LogTarget, Sample};
pub use errors::ConfigErrors;
pub use load::control_socket;
pub(crate) use model::begins_with_segments;
pub use model::{
    Admin, Algorithm, Ambiguous, Authorities, Certificate, ClientIdentity, Config, HalfClose,
    Headers, HealthCheck, Host, HostHeader, HostMetrics, Http1, Initial, KeySource, Limits,
    Listener, ListenerTls, Paths, Pool, PoolTls, Probe, ProxyProtocol, Rate, RateKey, Retries,
    Retry, Route, SameSite, Secret, Secure, Server, Sticky, Timeouts, Underscores, WhenAllDown,
};
pub use policies::{Ejection, Failures, PoolLimits, SlowStart};
pub use surroundings::{Surroundings, System};
pub use tracing::{Endpoint, Otlp, Share, Tracing};
