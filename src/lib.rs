//! The code of `ballast`, the load balancer.
//!
//! This is no library: what is visible is so for the binary, the tests and the benches of this package alone, and changes
//! without notice. The algorithms are a library, `ballast_balancer`.

mod access_log;
mod acme;
mod acme_challenges;
mod address_text;
mod admin;
#[doc(hidden)]
pub mod cli;
mod client_certificate;
mod cluster;
#[doc(hidden)]
pub mod config;
mod connect_error;
mod deadline_timer;
mod demo;
mod discovery;
mod engine;
mod etcd;
mod event_log;
mod file_stamps;
#[cfg(test)]
mod fuzz;
mod grpc_status;
mod health;
mod history;
mod host_socket;
mod host_tls;
mod http2_request;
mod logging;
mod manual_title;
#[doc(hidden)]
pub mod message;
#[doc(hidden)]
pub mod metrics;
mod normalize;
#[doc(hidden)]
pub mod pingora_driver;
#[doc(hidden)]
pub mod pool;
#[doc(hidden)]
pub mod proxy;
mod proxy_protocol;
#[doc(hidden)]
pub mod record;
mod resource_limits;
#[doc(hidden)]
pub mod route;
mod server;
mod simulate;
mod spoofable_headers;
mod state_file;
mod supervisor;
#[cfg(test)]
mod test_support;
mod thread_random;
mod timestamp;
mod traces;
