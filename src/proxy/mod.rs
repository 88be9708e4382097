//! The proxy: `impl ProxyHttp`, phase by phase.
//!
//! Every request holds one [`RequestContext`], and in it at most one lease. Both end by being dropped, so success,
//! error, retry, the client's disappearance and a panic in a filter release them alike.

mod answer;
mod context;
mod failure;
mod forwarded;
#[cfg(test)]
mod fuzz;
mod key;
mod phases;
mod rules;
mod site;
mod sticky;
mod target;
mod traffic;
mod upgrade;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Retries;

pub use context::RequestContext;
pub use site::Site;
pub use traffic::Traffic;

/// Attempts per request, the first included: the bound that Pingora is given, above all that a pool may allow. Its own
/// 16 would do as well, if it were promised.
pub const MAX_ATTEMPTS: usize = Retries::MOST_ATTEMPTS + 1;

/// The application that Pingora runs for each request.
#[derive(Debug)]
pub struct Proxy {
    site: Arc<ArcSwap<Site>>,
    traffic: Arc<Traffic>,
}

impl Proxy {
    /// A proxy for whatever `site` holds when a request begins.
    pub fn new(site: Arc<ArcSwap<Site>>, traffic: Arc<Traffic>) -> Self {
        Proxy { site, traffic }
    }
}
