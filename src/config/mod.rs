//! The configuration: YAML as said → typed as meant.

mod model;

pub use model::{
    Algorithm, CertificateFiles, Config, HealthCheck, Host, HostHeader, Initial, KeySource, Limits,
    Listener, ListenerTls, Pool, PoolTls, Probe, Route, Server, Timeouts, WhenAllDown,
};
