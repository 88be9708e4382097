//! The proxy: what is decided about requests, and `impl ProxyHttp`, which asks for it phase by phase. The engine asks too.
//!
//! Every request holds one [`RequestContext`], and in it at most one lease. Both end by being dropped, so success,
//! error, retry, the client's disappearance and a panic in a filter release them alike.

mod admission;
pub(crate) mod answer;
pub(crate) mod attempt;
pub(crate) mod client;
pub(crate) mod context;
mod deadlines;
mod demand;
mod explain;
pub(crate) mod failure;
pub(crate) mod forwarded;
#[cfg(test)]
mod fuzz;
mod key;
pub(crate) mod outgoing;
pub(crate) mod passing_on;
mod phases;
mod pingora_heads;
mod rate;
pub(crate) mod request_id;
pub(crate) mod rules;
mod site;
pub(crate) mod sticky;
mod target;
pub(crate) mod telling;
mod trace;
pub(crate) mod traffic;
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
pub const MAX_ATTEMPTS: usize = Retries::MAX_ATTEMPTS + 1;

/// What decides about requests: the application that Pingora runs for each, and what the engine asks. Clones share what is
/// counted.
#[derive(Debug, Clone)]
pub struct Proxy {
    site: Arc<ArcSwap<Site>>,
    traffic: Arc<Traffic>,
    /// Made when the first rate is looked at.
    clients: Arc<OnceLock<Clients>>,
}

impl Proxy {
    /// A proxy for whatever `site` holds when a request begins.
    pub fn new(site: Arc<ArcSwap<Site>>, traffic: Arc<Traffic>) -> Self {
        Proxy {
            site,
            traffic,
            clients: Arc::default(),
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
