//! The proxy: what is decided about requests, and `impl ProxyHttp`, which asks for it phase by phase. The engine asks too.
//!
//! Every request holds one [`RequestContext`], and in it at most one lease. Both end by being dropped, so success,
//! error, retry, the client's disappearance and a panic in a filter release them alike.

pub(crate) mod active_config;
pub(crate) mod admission;
pub(crate) mod attempt;
pub(crate) mod completion;
pub(crate) mod context;
mod explain;
pub(crate) mod failure;
pub(crate) mod forwarding;
#[cfg(test)]
mod fuzz;
pub(crate) mod http_rules;
pub(crate) mod local_response;
mod request_target;
pub(crate) mod selection;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use crate::config::Retries;
use admission::rate_limit::RateLimiter;

pub use active_config::{ActiveConfig, PreviousPool};
pub use admission::{TrafficState, client_network};
pub use context::RequestContext;
pub use explain::{ExplainError, ExplainRequest, ExplainedKey, RequestExplanation, explain};

/// Attempts per request, the first included: the bound that Pingora is given, above all that a pool may allow. Its own
/// 16 would do as well, if it were promised.
pub const MAX_ATTEMPTS: usize = Retries::MAX_ATTEMPTS + 1;

/// What decides about requests: the application that Pingora runs for each, and what the engine asks. Clones share what is
/// counted.
#[derive(Debug, Clone)]
pub struct Proxy {
    pub(crate) active: Arc<ArcSwap<ActiveConfig>>,
    pub(crate) traffic: Arc<TrafficState>,
    /// Made when the first rate is looked at.
    rate_limiter: Arc<OnceLock<RateLimiter>>,
}

impl Proxy {
    /// A proxy for whatever `active` holds when a request begins.
    pub fn new(active: Arc<ArcSwap<ActiveConfig>>, traffic: Arc<TrafficState>) -> Self {
        Proxy {
            active,
            traffic,
            rate_limiter: Arc::default(),
        }
    }

    fn rate_limiter(&self) -> &RateLimiter {
        self.rate_limiter.get_or_init(RateLimiter::default)
    }
}
