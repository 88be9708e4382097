//! Ballast: a production HTTP load balancer on Cloudflare's Pingora, and the library of seven balancing algorithms
//! inside it.
//!
//! With `default-features = false` the crate is [`balancer`] alone, without Pingora and without Tokio.

#[cfg(feature = "proxy")]
pub mod access_log;
#[cfg(feature = "proxy")]
mod address_text;
#[cfg(feature = "proxy")]
pub mod admin;
#[cfg(feature = "proxy")]
mod alarm;
pub mod balancer;
#[cfg(feature = "proxy")]
pub mod cli;
#[cfg(feature = "proxy")]
pub mod config;
#[cfg(feature = "proxy")]
pub mod demo;
#[cfg(feature = "proxy")]
mod descriptors;
#[cfg(feature = "proxy")]
pub mod engine;
#[cfg(all(test, feature = "proxy"))]
mod fuzz;
#[cfg(feature = "proxy")]
pub mod health;
#[cfg(feature = "proxy")]
pub mod history;
#[cfg(feature = "proxy")]
mod identity_fields;
#[cfg(feature = "proxy")]
pub mod journal;
#[cfg(feature = "proxy")]
pub mod logging;
#[cfg(feature = "proxy")]
pub mod message;
#[cfg(feature = "proxy")]
pub mod metrics;
#[cfg(feature = "proxy")]
pub mod moment;
#[cfg(feature = "proxy")]
mod normalize;
#[cfg(feature = "proxy")]
pub mod pool;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "proxy")]
pub mod record;
#[cfg(feature = "proxy")]
pub mod route;
#[cfg(feature = "proxy")]
pub mod server;
#[cfg(feature = "proxy")]
pub mod supervisor;
#[cfg(feature = "proxy")]
pub mod traces;
