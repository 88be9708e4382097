//! What the configuration says about requests, as one value that is replaced as a whole.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::forwarding::trace_context::TraceSampling;
use super::http_rules::Via;
use crate::config::{
    self, Access, ClientIdentity, Config, HalfClose, Http1, Limits, ProxyProtocol, Timeouts,
    Underscores,
};
use crate::pool::{HostRegistry, Pool, PoolError};
use crate::record::Observer;
use crate::route::Router;

/// Routes, pools and what else is said about requests. Each request loads it once and keeps it to its end, so a new one
/// can take its place while connections live on.
#[derive(Debug)]
pub struct ActiveConfig {
    /// Which requests go to which pool.
    pub router: Router,
    /// The routes; the router's answers are indices into them.
    pub routes: Vec<config::Route>,
    /// The pools; those of the routes are indices into them.
    pub pools: Vec<Arc<Pool>>,
    /// Who may connect to which listener.
    pub listeners: Vec<ListenerPolicy>,
    /// Networks whose X-Forwarded-* fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What becomes of a request whose client ends its sending side before the answer has ended.
    pub half_close: HalfClose,
    /// Protocols that a connection may be upgraded to.
    pub upgrades: Vec<Arc<str>>,
    /// What drives requests of HTTP/1.1.
    pub http1: Http1,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// How much there may be of anything.
    pub limits: Limits,
    /// What becomes of a request's fields with `_` in their names.
    pub(crate) underscores: Underscores,
    /// Fields by which a client could lie about itself.
    pub(crate) client_identity: ClientIdentity,
    /// Which traces are recorded; `None`: requests are given none.
    pub(crate) sampling: Option<TraceSampling>,
    /// Who is told how requests went.
    pub observers: Vec<Arc<dyn Observer>>,
    /// What this proxy leaves in the Via field of a message.
    pub(crate) via: Option<Via>,
}

/// The pool of a name in the site before.
#[derive(Debug)]
pub enum PreviousPool {
    /// It serves on as it is.
    Unchanged(Arc<Pool>),
    /// Another one takes its place.
    Replaced(Arc<Pool>),
}

/// Who may connect to a listener, and for whom.
#[derive(Debug)]
pub struct ListenerPolicy {
    listener: SocketAddr,
    access: Access,
    proxy_protocol: Option<ProxyProtocol>,
}

impl ActiveConfig {
    /// The site of a configuration. Hosts that `book` knows keep their live state.
    ///
    /// # Errors
    /// That of the first pool that cannot be built.
    pub fn new(config: &Config, host_registry: &mut HostRegistry) -> Result<Self, PoolError> {
        ActiveConfig::replacing(config, host_registry, |_| None)
    }

    /// The same in the place of another site, of which `before` knows the pools.
    ///
    /// # Errors
    /// That of the first pool that cannot be built.
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
        Ok(ActiveConfig {
            router: Router::new(&config.routes, config.paths.ambiguous),
            routes: config.routes.clone(),
            pools: pools.collect::<Result<_, _>>()?,
            listeners: config
                .listeners
                .iter()
                .map(|listener| ListenerPolicy {
                    listener: listener.address,
                    access: listener.access.clone(),
                    proxy_protocol: listener.proxy_protocol.clone(),
                })
                .collect(),
            trusted_proxies: config.trusted_proxies.clone(),
            half_close: config.half_close,
            upgrades: config.upgrades.clone(),
            http1: config.server.http1,
            timeouts: config.timeouts,
            limits: config.limits.clone(),
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

    /// Whether `peer` may connect to the listener at `address`.
    pub fn admits(&self, address: SocketAddr, peer: IpAddr) -> bool {
        let policy = self.listener(address);
        policy.is_none_or(|policy| policy.access.permits(peer))
    }

    /// Who announces clients at the listener at `address`; `None`: they connect themselves.
    pub fn proxy_protocol(&self, address: SocketAddr) -> Option<&ProxyProtocol> {
        self.listener(address)?.proxy_protocol.as_ref()
    }

    fn listener(&self, address: SocketAddr) -> Option<&ListenerPolicy> {
        self.listeners
            .iter()
            .find(|policy| policy.listener == address)
    }
}
