//! The proxy: `impl ProxyHttp`, phase by phase.
//!
//! Every request holds one [`RequestContext`], and in it at most one lease. Both end by being dropped, so success,
//! error, retry, the client's disappearance and a panic in a filter release them alike.

mod admission;
mod answer;
mod client;
mod context;
mod deadlines;
mod demand;
mod explain;
mod failure;
mod forwarded;
#[cfg(test)]
mod fuzz;
mod key;
mod phases;
mod rate;
mod rules;
mod site;
mod sticky;
mod target;
mod telling;
mod trace;
mod traffic;
mod upgrade;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use pingora::proxy::Session;

use crate::config::Retries;
use rate::Clients;

pub use client::{Client, Guarded};
pub use context::RequestContext;
pub use explain::{Described, Explanation, Inexplicable, Key, explain};
pub use rate::client_network;
pub use site::{Before, Site};
pub use traffic::Traffic;

/// Attempts per request, the first included: the bound that Pingora is given, above all that a pool may allow. Its own
/// 16 would do as well, if it were promised.
pub const MAX_ATTEMPTS: usize = Retries::MOST_ATTEMPTS + 1;

/// The application that Pingora runs for each request.
#[derive(Debug)]
pub struct Proxy {
    site: Arc<ArcSwap<Site>>,
    traffic: Arc<Traffic>,
    /// Made when the first rate is looked at.
    clients: OnceLock<Clients>,
}

impl Proxy {
    /// A proxy for whatever `site` holds when a request begins.
    pub fn new(site: Arc<ArcSwap<Site>>, traffic: Arc<Traffic>) -> Self {
        Proxy {
            site,
            traffic,
            clients: OnceLock::new(),
        }
    }

    fn clients(&self) -> &Clients {
        self.clients.get_or_init(Clients::default)
    }
}

/// Whether the client's connection is encrypted.
fn is_over_tls(session: &Session) -> bool {
    session
        .digest()
        .is_some_and(|digest| digest.ssl_digest.is_some())
}
