//! What a request may take, once its route and its pool are known: made when a configuration becomes active, so that a
//! request only looks it up by its number.

use std::sync::Arc;

use super::admission::traffic_state::RouteSlots;
use crate::config::{Compression, Config, Retries, Timeouts};

/// Timeouts, the size of the body and retries of a request, and how its response is compressed. What a route leaves out is its pool's, or else the top
/// level's.
#[derive(Debug, Clone)]
pub(crate) struct RequestLimits {
    pub(crate) timeouts: Timeouts,
    /// Bytes of the body. `None`: no limit.
    pub(crate) body: Option<u64>,
    /// `None`: the request is sent once.
    pub(crate) retries: Option<Retries>,
    /// `None`: the response is not compressed.
    pub(crate) compression: Option<Arc<Compression>>,
}

/// What a route has at run time.
#[derive(Debug)]
pub(crate) struct RouteState {
    /// The number of its limits in [`ActiveConfig::request_limits`](super::ActiveConfig::request_limits). A route with
    /// `pools` has as many of them as pools, in that order.
    pub(crate) limits: usize,
    /// `None`: no limit on its requests in flight.
    pub(crate) slots: Option<RouteSlots>,
    /// Whether the hosts of one of its pools may speak HTTP/2.
    pub(crate) may_be_http2: bool,
}

impl RequestLimits {
    /// The limits of requests without a route, then those of all routes.
    pub(super) fn of_routes(config: &Config) -> (Vec<RequestLimits>, Vec<RouteState>) {
        let mut limits = vec![RequestLimits {
            timeouts: config.timeouts,
            body: config.limits.body,
            retries: None,
            compression: None,
        }];
        let states = config.routes.iter().map(|route| {
            let first = limits.len();
            let mut pools = route.action.pools().peekable();
            let body = config.body_limit(route);
            let compression = config.response_compression(route).map(Arc::new);
            if pools.peek().is_none() {
                limits.push(RequestLimits {
                    timeouts: config.request_timeouts(route, None),
                    body,
                    retries: None,
                    compression: None,
                });
            }
            limits.extend(pools.map(|pool| {
                let pool = &config.pools[pool.index];
                RequestLimits {
                    timeouts: config.request_timeouts(route, Some(pool)),
                    body,
                    retries: Config::request_retries(route, pool),
                    compression: compression.clone(),
                }
            }));
            let mut pools = route.action.pools();
            RouteState {
                may_be_http2: pools.any(|pool| config.pools[pool.index].protocol.may_be_http2()),
                limits: first,
                slots: route.limits.max_in_flight.map(RouteSlots::new),
            }
        });
        let states = states.collect();
        (limits, states)
    }

    /// The longest body that any request may have. `None`: some have no limit.
    pub(super) fn largest_body(limits: &[RequestLimits]) -> Option<u64> {
        let bodies = limits.iter().map(|limits| limits.body);
        let bodies = bodies.collect::<Option<Vec<_>>>()?;
        bodies.into_iter().max()
    }
}
