//! Ballast: a production HTTP load balancer on Cloudflare's Pingora, and the library of seven balancing algorithms
//! that it uses.
//!
//! With `default-features = false` the crate contains only [`balancer`], and depends on neither Pingora nor Tokio.

#[cfg(feature = "proxy")]
pub mod access_log;
#[cfg(feature = "proxy")]
pub mod acme;
#[cfg(feature = "proxy")]
mod acme_challenges;
#[cfg(feature = "proxy")]
mod address_text;
#[cfg(feature = "proxy")]
pub mod admin;
pub mod balancer;
#[cfg(feature = "proxy")]
pub mod cli;
#[cfg(feature = "proxy")]
pub mod client_certificate;
#[cfg(feature = "proxy")]
pub mod cluster;
#[cfg(feature = "proxy")]
pub mod config;
#[cfg(feature = "proxy")]
mod connect_error;
#[cfg(feature = "proxy")]
mod deadline_timer;
#[cfg(feature = "proxy")]
pub mod demo;
#[cfg(feature = "proxy")]
mod discovery;
#[cfg(feature = "proxy")]
pub mod engine;
#[cfg(feature = "proxy")]
pub mod etcd;
#[cfg(feature = "proxy")]
pub mod event_log;
#[cfg(feature = "proxy")]
mod file_stamps;
#[cfg(all(test, feature = "proxy"))]
mod fuzz;
#[cfg(feature = "proxy")]
pub mod grpc_status;
#[cfg(feature = "proxy")]
pub mod health;
#[cfg(feature = "proxy")]
pub mod history;
#[cfg(feature = "proxy")]
mod host_address_text;
#[cfg(feature = "proxy")]
mod host_socket;
#[cfg(feature = "proxy")]
mod host_tls;
#[cfg(feature = "proxy")]
pub mod http2_request;
#[cfg(feature = "proxy")]
pub mod logging;
#[cfg(feature = "proxy")]
pub mod message;
#[cfg(feature = "proxy")]
pub mod metrics;
#[cfg(feature = "proxy")]
mod normalize;
#[cfg(feature = "proxy")]
pub mod pingora_driver;
#[cfg(feature = "proxy")]
pub mod pool;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "proxy")]
pub mod proxy_protocol;
#[cfg(feature = "proxy")]
pub mod record;
#[cfg(feature = "proxy")]
mod resource_limits;
#[cfg(feature = "proxy")]
pub mod route;
#[cfg(feature = "proxy")]
pub mod server;
#[cfg(feature = "proxy")]
mod spoofable_headers;
#[cfg(feature = "proxy")]
mod state_file;
#[cfg(feature = "proxy")]
pub mod supervisor;
#[cfg(all(test, feature = "proxy"))]
mod test_support;
#[cfg(feature = "proxy")]
pub mod timestamp;
#[cfg(feature = "proxy")]
pub mod traces;
