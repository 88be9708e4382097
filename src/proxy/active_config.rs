//! The running configuration of the proxy, as one immutable value that a reload replaces as a whole.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::forwarding::trace_context::TraceSampling;
use super::forwarding::x_forwarded::LocalAddress;
use super::http_rules::Via;
use super::request_limits::{RequestLimits, RouteState};
use crate::config::{
    self, Access, CleartextHttp2, ClientIdentity, Config, ErrorPages, HalfClose, Http1, Limits,
    ListenerAddress, ProxyProtocol, RouteMatch, Timeouts, TrustedProxy, Underscores,
};
use crate::pool::{HostRegistry, Pool, PoolError};
use crate::record::Observer;
use crate::route::Router;

/// Routes, pools and everything else the configuration says about requests. A request loads it once and keeps it until
/// it ends, so a reload can replace it while connections stay open.
#[derive(Debug)]
pub struct ActiveConfig {
    /// Which requests go to which pool.
    pub router: Router,
    /// The routes. The router returns indices into this list.
    pub routes: Vec<config::Route>,
    /// Pages for responses of the proxy's own, where the route has none.
    pub(crate) errors: ErrorPages,
    /// The pools. A route refers to its pool by an index into this list.
    pub pools: Vec<Arc<Pool>>,
    /// Access rules of each listener.
    pub listeners: Vec<ListenerPolicy>,
    /// Listeners that redirect plain requests to https.
    https_redirects: Vec<ListenerAddress>,
    /// Proxies whose X-Forwarded-* fields are trusted.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// What happens to a request whose client closes its sending side before the response is complete.
    pub half_close: HalfClose,
    /// Protocols to which a connection may be upgraded.
    pub upgrades: Vec<Arc<str>>,
    /// Which driver serves HTTP/1.1: the engine or Pingora.
    pub http1: Http1,
    /// Timeouts of connections, and of requests whose route is not known yet.
    pub timeouts: Timeouts,
    /// Limits on sizes, counts and rates. That of the body is the longest one that any route permits.
    pub limits: Limits,
    /// What requests may take, by route and pool. The first element is for requests without a route.
    pub(crate) request_limits: Vec<RequestLimits>,
    /// What the routes have at run time, in the order of `routes`.
    pub(crate) route_states: Vec<RouteState>,
    /// Whether hosts of any pool may speak HTTP/2.
    pub(crate) has_http2_hosts: bool,
    /// Whether hosts of any pool get PROXY headers.
    pub(crate) sends_proxy_protocol: bool,
    /// Listeners that take HTTP/2 without TLS.
    cleartext_http2: Vec<ListenerAddress>,
    /// What happens to request fields with `_` in their names.
    pub(crate) underscores: Underscores,
    /// Fields by which a client could claim a false identity.
    pub(crate) client_identity: ClientIdentity,
    /// Which traces are recorded. `None`: tracing is off, and requests carry no trace context.
    pub(crate) sampling: Option<TraceSampling>,
    /// They receive a record of every finished request.
    pub observers: Vec<Arc<dyn Observer>>,
    /// What this proxy appends to the Via field of a message.
    pub(crate) via: Option<Via>,
}

/// A pool of the previous configuration with the same name.
#[derive(Debug)]
pub enum PreviousPool {
    /// The pool's configuration has not changed; the pool stays in use.
    Unchanged(Arc<Pool>),
    /// A new pool replaces it and takes over its live state.
    Replaced(Arc<Pool>),
}

/// Which peers may connect to a listener, and which of them may send the PROXY protocol.
#[derive(Debug)]
pub struct ListenerPolicy {
    listener: ListenerAddress,
    access: Access,
    proxy_protocol: Option<ProxyProtocol>,
}

impl ActiveConfig {
    /// Builds the pools and the router of a configuration. Hosts known to `host_registry` keep their live state.
    ///
    /// # Errors
    /// The error of the first pool that cannot be built.
    pub fn new(config: &Config, host_registry: &mut HostRegistry) -> Result<Self, PoolError> {
        ActiveConfig::replacing(config, host_registry, |_| None)
    }

    /// Like [`new`](Self::new), for a reload: `before` returns the pool of the previous configuration that a pool
    /// continues.
    ///
    /// # Errors
    /// The error of the first pool that cannot be built.
    pub fn replacing(
        config: &Config,
        host_registry: &mut HostRegistry,
        before: impl Fn(&config::Pool) -> Option<PreviousPool>,
    ) -> Result<Self, PoolError> {
        let pools = config.pools.iter().map(|pool| {
            let before = before(pool);
            if let Some(PreviousPool::Unchanged(kept)) = before {
                return Ok(kept);
            }
            let fresh = Pool::new(pool, &config.timeouts, host_registry)?;
            Ok(Arc::new(match before {
                Some(PreviousPool::Replaced(other)) => fresh.carry_over_from(&other),
                _ => fresh,
            }))
        });
        let pools = pools.collect::<Result<Vec<_>, _>>()?;
        for mirror in config
            .routes
            .iter()
            .filter_map(|route| route.mirror.as_ref())
        {
            // Its series start at 0.
            pools[mirror.pool.index].counters().enable_copies();
        }
        let redirecting = config.listeners.iter().filter(|l| l.redirect_https);
        let listeners = config.listeners.iter();
        let cleartext = listeners.filter(|l| l.http2 == CleartextHttp2::Cleartext);
        let (request_limits, route_states) = RequestLimits::of_routes(config);
        Ok(ActiveConfig {
            router: Router::new(&config.routes, config.paths.ambiguous),
            routes: config.routes.clone(),
            errors: config.errors.clone(),
            pools,
            listeners: config
                .listeners
                .iter()
                .map(|listener| ListenerPolicy {
                    listener: listener.address.clone(),
                    access: listener.access.clone(),
                    proxy_protocol: listener.proxy_protocol.clone(),
                })
                .collect(),
            https_redirects: redirecting.map(|l| l.address.clone()).collect(),
            trusted_proxies: config.trusted_proxies.clone(),
            half_close: config.half_close,
            upgrades: config.upgrades.clone(),
            http1: config.server.http1,
            timeouts: config.timeouts,
            limits: Limits {
                body: RequestLimits::largest_body(&request_limits),
                ..config.limits.clone()
            },
            request_limits,
            sends_proxy_protocol: config
                .pools
                .iter()
                .any(|pool| pool.proxy_protocol.is_some()),
            has_http2_hosts: route_states.iter().any(|route| route.may_be_http2),
            route_states,
            cleartext_http2: cleartext.map(|l| l.address.clone()).collect(),
            underscores: config.headers.underscores,
            client_identity: config.headers.client_identity.clone(),
            sampling: config.tracing.as_ref().map(|tracing| TraceSampling {
                share: tracing.sample,
                trust_clients: tracing.trust_clients,
            }),
            observers: Vec::new(),
            via: config.headers.via.as_deref().map(Via::new),
        })
    }

    /// Takes over the requests in flight of the routes that were there `before`. What a route matches identifies it.
    pub(crate) fn continue_routes(&mut self, before: &ActiveConfig) {
        let known = before.routes.iter().zip(&before.route_states);
        #[expect(
            clippy::mutable_key_type,
            reason = "regular expressions are compared and hashed by their text, which never changes"
        )]
        let known = HashMap::<&RouteMatch, _>::from_iter(
            known.filter_map(|(route, state)| Some((&route.matches, state.slots.as_ref()?))),
        );
        for (route, state) in self.routes.iter().zip(&mut self.route_states) {
            if let (Some(slots), Some(known)) = (&mut state.slots, known.get(&route.matches)) {
                slots.continue_from(known);
            }
        }
    }

    /// Whether `client` may connect to the listener at `address`. `None`: it has no address.
    pub fn admits(&self, address: &ListenerAddress, client: Option<IpAddr>) -> bool {
        let policy = self.listener(address);
        policy.is_none_or(|policy| policy.access.permits(client))
    }

    /// The PROXY protocol settings of the listener at `address`. `None`: clients connect to it directly.
    pub fn proxy_protocol(&self, address: &ListenerAddress) -> Option<&ProxyProtocol> {
        self.listener(address)?.proxy_protocol.as_ref()
    }

    /// Whether plain requests to `local`, the address of a listener or of a connection, are redirected to https.
    pub(crate) fn redirects_to_https(&self, local: Option<LocalAddress<'_>>) -> bool {
        let is_at = |listener: &ListenerAddress, local| match (listener, local) {
            (ListenerAddress::Inet(listener), LocalAddress::Inet(local)) => {
                let (ip, at) = (listener.ip(), local.ip());
                listener.port() == local.port()
                    && (ip.is_unspecified() || ip.to_canonical() == at.to_canonical())
            }
            (ListenerAddress::Unix(listener), LocalAddress::Unix(local)) => **listener == *local,
            _ => false,
        };
        let mut redirects = self.https_redirects.iter();
        redirects.any(|listener| local.is_some_and(|local| is_at(listener, local)))
    }

    /// Whether clients may speak HTTP/2 without TLS on the listener at `address`.
    pub(crate) fn takes_cleartext_http2(&self, address: &ListenerAddress) -> bool {
        self.cleartext_http2.contains(address)
    }

    fn listener(&self, address: &ListenerAddress) -> Option<&ListenerPolicy> {
        self.listeners
            .iter()
            .find(|policy| policy.listener == *address)
    }
}
