//! The composition root: builds everything from a configuration, binds, and runs until a signal ends it.

mod announce;
mod edge;
mod handover;
mod listen;
pub mod places;
mod shutdown;
mod standing;
mod tls;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::info;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::proxy::HttpProxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownWatch};
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service as ListeningService;

use crate::config::{Config, Listener};
use crate::health::Monitor;
use crate::pool::{HostBook, PoolError};
use crate::proxy::{MAX_ATTEMPTS, Proxy, Site, Traffic};

use edge::Edge;
use handover::{Handover, Program, Successor};
use listen::Listening;
use places::Places;
use shutdown::Signals;
use standing::Standing;

/// Why the server did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration asks for what cannot be had.
    Pool(PoolError),
    /// A certificate or its key cannot be used.
    Certificate(String),
    /// An address cannot be listened on.
    Listen(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Pool(error) => error.fmt(f),
            StartError::Certificate(reason) | StartError::Listen(reason) => f.write_str(reason),
        }
    }
}

impl Error for StartError {}

/// Unused connections to hosts that are kept, per thread: enough for the busiest thread of a large machine, at one file
/// descriptor each.
const IDLE_UPSTREAM_CONNECTIONS: usize = 1024;

/// What a connection reads ahead. Pingora's 64 KiB would be 640 MiB for 10,000 idle clients; requests are smaller.
const READ_BUFFER: usize = 16 << 10;

/// What a connection collects before it writes; Pingora's value, one segment.
const WRITE_BUFFER: usize = 1460;

/// A server that is bound to its addresses but does not serve yet.
pub struct Prepared {
    server: Server,
    signals: Signals,
    standing: Arc<Standing>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

impl Prepared {
    /// Builds everything that can fail, and binds. With `upgrade` the listeners and what is known of the hosts come from
    /// the process that serves, if there is one.
    ///
    /// # Errors
    /// If the server cannot start.
    pub fn new(config: &Config, places: Places, upgrade: bool) -> Result<Self, StartError> {
        let program = Program::running().map_err(|error| {
            StartError::Listen(format!("cannot find out which program this is: {error}"))
        })?;
        let site = Site::new(config, &mut HostBook::new()).map_err(StartError::Pool)?;
        let successor = match upgrade {
            true => Successor::come(&places.upgrade_socket).map_err(StartError::Listen)?,
            false => None,
        };
        let comes = successor.is_some();
        for state in successor.iter().flat_map(Successor::state) {
            let mut pools = site.pools.iter();
            if let Some(pool) = pools.find(|pool| pool.name() == state.name) {
                pool.carry(state);
            }
        }
        let site = Arc::new(ArcSwap::from_pointee(site));
        let traffic = Arc::new(Traffic::default());
        let grace = config.server.grace_period;
        let handover = Arc::new(Handover::new(program, grace, Arc::clone(&site)));
        let standing = Arc::new(Standing::new(
            places,
            Arc::clone(&handover),
            Arc::clone(&site),
        ));
        let mut server = Server::new_with_opt_and_conf(None, server_conf(config));
        let proxy = Proxy::new(Arc::clone(&site), Arc::clone(&traffic));
        let mut proxy = HttpProxy::new(proxy, Arc::clone(&server.configuration));
        proxy.handle_init_modules();
        let mut service = ListeningService::new("proxy".to_owned(), Edge::new(proxy));
        for listener in &config.listeners {
            service.add_listener(endpoint(listener)?);
        }
        let addresses = config.listeners.iter().map(|listener| listener.address);
        let addresses = addresses.collect();
        let listening = Listening::new(service, addresses, successor, Arc::clone(&standing));
        let listening = listening.map_err(StartError::Listen)?;
        if !comes {
            standing.open_door().map_err(StartError::Listen)?;
        }
        let health = server.add_service(background_service("health", Health { site }));
        let proxy = server.add_service(listening);
        proxy.add_dependency(&health);
        Ok(Prepared {
            server,
            signals: Signals::new(traffic, grace, handover, Arc::clone(&standing)),
            standing,
        })
    }

    /// Checks every host once, listens, and serves until a signal ends it. The process may end within, once the last
    /// request has.
    pub fn run(self) {
        self.server.run(RunArgs {
            shutdown_signal: Box::new(self.signals),
        });
        self.standing.end();
        info!("stopped");
    }
}

/// Whether a server could start with this configuration, as far as that can be said without binding.
///
/// # Errors
/// What stands against it.
pub fn check(config: &Config) -> Result<(), StartError> {
    Site::new(config, &mut HostBook::new()).map_err(StartError::Pool)?;
    config
        .listeners
        .iter()
        .try_for_each(|listener| endpoint(listener).map(drop))
}

fn endpoint(listener: &Listener) -> Result<ListenerConfig, StartError> {
    let endpoint = ListenerConfig::tcp(listener.address.to_string())
        .l4_buffer(L4BufferSettings::new(READ_BUFFER, WRITE_BUFFER));
    match &listener.tls {
        None => Ok(endpoint),
        Some(tls) => {
            let settings =
                tls::settings(tls).map_err(|error| StartError::Certificate(error.to_string()))?;
            Ok(endpoint.tls(settings))
        }
    }
}

fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        threads: config.server.threads,
        upstream_keepalive_pool_size: IDLE_UPSTREAM_CONNECTIONS,
        max_retries: MAX_ATTEMPTS,
        work_stealing: config.server.threads > 1,
        // Only the backstop: `shutdown` ends the process before, and Pingora would sleep the whole time.
        grace_period_seconds: Some(config.server.grace_period.as_secs() + 1),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    }
}

/// The health checks as a service of their own, on a thread of their own; ready after the first round.
struct Health {
    site: Arc<ArcSwap<Site>>,
}

#[async_trait]
impl BackgroundService for Health {
    async fn start_with_ready_notifier(
        &self,
        _shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let _monitor = Monitor::start(&self.site.load().pools).await;
        ready.notify_ready();
        // Draining requests still need hosts, so the checks go on until the process ends.
        std::future::pending().await
    }
}
