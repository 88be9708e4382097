//! The decisions about requests, independent of the driver that reads and writes them. The engine and the Pingora
//! driver both call this module, phase by phase.
//!
//! Each request owns one [`RequestContext`], and in it at most one lease. Both are released when dropped, so every way
//! to end a request releases them: success, error, retry, a client that disconnects, a panic in a filter.

pub(crate) mod active_config;
pub(crate) mod admission;
pub(crate) mod attempt;
mod authentication;
pub(crate) mod completion;
pub mod compression;
pub(crate) mod context;
mod error_page;
mod explain;
pub(crate) mod failure;
pub(crate) mod forwarding;
#[cfg(test)]
mod fuzz;
pub(crate) mod grpc;
pub(crate) mod http_rules;
pub(crate) mod local_message;
pub(crate) mod local_response;
pub(crate) mod mirror;
mod request_limits;
mod request_target;
pub(crate) mod selection;
pub(crate) mod subrequest;
mod template_values;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use crate::acme_challenges::AcmeChallenges;
use crate::config::Retries;
use admission::rate_limit::RateLimiter;
use authentication::PasswordChecker;
use subrequest::SubrequestClient;

pub use active_config::{ActiveConfig, PreviousPool};
pub use admission::{TrafficState, client_network};
pub use context::RequestContext;
pub use explain::{
    ExplainError, ExplainRequest, ExplainedKey, ExplainedShare, ExplainedSplit, RequestExplanation,
    UnmatchedRoute, explain,
};

/// Maximum number of attempts per request, including the first. Passed to Pingora as its limit, it is above anything a
/// pool can be configured to. Pingora's own default, 16, would suffice but is not documented.
pub const MAX_ATTEMPTS: usize = Retries::MAX_ATTEMPTS + 1;

/// The shared state of all requests. Clones share it.
#[derive(Debug, Clone)]
pub struct Proxy {
    pub(crate) active: Arc<ArcSwap<ActiveConfig>>,
    pub(crate) traffic: Arc<TrafficState>,
    /// Allocated on first use, because most configurations have no rates.
    rate_limiter: Arc<OnceLock<RateLimiter>>,
    /// The same for routes with `basic_auth`.
    password_checker: Arc<OnceLock<PasswordChecker>>,
    /// For requests of the proxy's own.
    pub(crate) subrequests: Arc<SubrequestClient>,
    challenges: Arc<AcmeChallenges>,
}

impl Proxy {
    /// A proxy that serves each request by the configuration in `active` at its start.
    pub fn new(active: Arc<ArcSwap<ActiveConfig>>, traffic: Arc<TrafficState>) -> Self {
        Proxy {
            active,
            traffic,
            rate_limiter: Arc::default(),
            password_checker: Arc::default(),
            subrequests: Arc::default(),
            challenges: Arc::default(),
        }
    }

    /// Answers the challenges of authorities that are pending.
    pub(crate) fn with_challenges(mut self, challenges: Arc<AcmeChallenges>) -> Self {
        self.challenges = challenges;
        self
    }

    fn rate_limiter(&self) -> &RateLimiter {
        self.rate_limiter.get_or_init(RateLimiter::default)
    }

    fn password_checker(&self) -> &PasswordChecker {
        self.password_checker.get_or_init(PasswordChecker::default)
    }
}
