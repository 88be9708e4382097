//! Ballast: a production HTTP load balancer on Cloudflare's Pingora, and the library of seven balancing algorithms
//! inside it.
//!
//! With `default-features = false` the crate is [`balancer`] alone, without Pingora and without Tokio.

pub mod balancer;
#[cfg(feature = "proxy")]
pub mod config;
