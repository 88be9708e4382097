//! The composition root: builds everything from a configuration, binds, and runs until a signal ends it.

mod changes;
mod control;
mod listen;
pub mod places;
mod reload;
mod shutdown;
mod signals;
mod tls;

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::info;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::proxy::http_proxy_service_with_name;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownWatch};
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening;
use tokio::sync::mpsc;

use crate::admin::{Api, Probes, Readiness};
use crate::config::{Config, Listener};
use crate::pool::{HostBook, PoolError};
use crate::proxy::{MAX_ATTEMPTS, Proxy, Site, Traffic};

use control::{Control, SocketFile};
use listen::{Listening, Socket};
use places::Places;
use reload::{Asked, Keeper, Reloads};
use signals::Events;
use tls::Certificates;

/// Why the server did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration asks for what cannot be had.
    Pool(PoolError),
    /// A certificate or its key cannot be used.
    Certificate(String),
    /// An address cannot be listened on.
    Listen(String),
    /// The files of the process cannot be where they should, or are those of another process.
    Places(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Pool(error) => error.fmt(f),
            StartError::Certificate(reason)
            | StartError::Listen(reason)
            | StartError::Places(reason) => f.write_str(reason),
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

/// Commands that may wait to be taken up.
const WAITING_COMMANDS: usize = 16;

/// The longest time to which a configuration can set a grace period.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// A server that is bound to its addresses but does not serve yet.
pub struct Prepared {
    server: Server,
    events: Events,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

impl Prepared {
    /// Builds everything that can fail, and binds. `file` is where `config` comes from; without it there is nothing to
    /// reload.
    ///
    /// # Errors
    /// If the server cannot start.
    pub fn new(config: Config, file: Option<&Path>) -> Result<Self, StartError> {
        let places = Places::make(&config.server, file).map_err(StartError::Places)?;
        control::refuse_second(&places.control_socket).map_err(StartError::Places)?;
        let mut book = HostBook::new();
        let site = Site::new(&config, &mut book).map_err(StartError::Pool)?;
        let site = Arc::new(ArcSwap::from_pointee(site));
        let traffic = Arc::new(Traffic::default());
        let readiness = Arc::new(Readiness::default());
        let mut server = Server::new_with_opt_and_conf(None, server_conf(&config));

        let proxy = Proxy::new(Arc::clone(&site), Arc::clone(&traffic));
        let mut service = http_proxy_service_with_name(&server.configuration, proxy, "proxy");
        let mut certificates = Vec::new();
        for listener in &config.listeners {
            let (endpoint, shown) = endpoint(listener)?;
            service.add_listener(endpoint);
            certificates.extend(shown.map(|shown| (listener.address, shown)));
        }
        let sockets = config.listeners.iter();
        let sockets = sockets.map(|listener| Socket::bind(listener.address));
        let sockets = sockets
            .collect::<Result<_, _>>()
            .map_err(StartError::Listen)?;
        if let Some(address) = config.admin.address {
            let socket = Socket::bind(address).map_err(StartError::Listen)?;
            let probes = Probes::new(Arc::clone(&readiness));
            let mut admin = listening::Service::new("admin".to_owned(), probes);
            admin.threads = Some(1);
            admin.add_listener(ListenerConfig::tcp(address.to_string()));
            server.add_service(Listening::new(admin, vec![socket]));
        }

        let (reloads, asked) = Reloads::channel();
        let (commands, received) = mpsc::channel(WAITING_COMMANDS);
        let control_socket = Arc::new(SocketFile::default());
        server.add_service(background_service(
            "control",
            Control {
                path: places.control_socket,
                file: Arc::clone(&control_socket),
                readiness: Arc::clone(&readiness),
                api: Arc::new(Api::new(commands)),
            },
        ));
        let newest = Arc::new(ArcSwap::from_pointee(config.server.clone()));
        let keeper = Keeper {
            file: file.map(Path::to_owned),
            config,
            book,
            site,
            server: Arc::clone(&newest),
            certificates,
            checks: Vec::new(),
        };
        let health = server.add_service(background_service("health", Health::new(keeper, asked)));
        let listening = Listening::new(service, sockets).then_ready(Arc::clone(&readiness));
        let proxy = server.add_service(listening);
        proxy.add_dependency(&health);
        Ok(Prepared {
            server,
            events: Events {
                traffic,
                server: newest,
                readiness,
                reloads,
                commands: tokio::sync::Mutex::new(received),
                control_socket,
            },
        })
    }

    /// Checks every host once, listens, and serves until a signal ends it. The process may end within, once the last
    /// request has.
    pub fn run(self) {
        self.server.run(RunArgs {
            shutdown_signal: Box::new(self.events),
        });
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

/// How a listener is served, and the certificates that it shows.
fn endpoint(
    listener: &Listener,
) -> Result<(ListenerConfig, Option<Arc<Certificates>>), StartError> {
    let endpoint = ListenerConfig::tcp(listener.address.to_string())
        .l4_buffer(L4BufferSettings::new(READ_BUFFER, WRITE_BUFFER));
    let Some(tls) = &listener.tls else {
        return Ok((endpoint, None));
    };
    let certificates = Arc::new(Certificates::new(tls));
    let settings = tls::settings(Arc::clone(&certificates))
        .map_err(|error| StartError::Certificate(error.to_string()))?;
    Ok((endpoint.tls(settings), Some(certificates)))
}

fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        threads: config.server.threads,
        upstream_keepalive_pool_size: IDLE_UPSTREAM_CONNECTIONS,
        max_retries: MAX_ATTEMPTS,
        work_stealing: config.server.threads > 1,
        // Only the backstop: `shutdown` ends the process before, and Pingora would sleep the whole time. A reload may
        // have set a longer grace period by then.
        grace_period_seconds: Some(LONGEST_GRACE.as_secs() + 1),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    }
}

/// The health checks and the reloads as a service of their own, on a thread of their own; ready after the first round.
struct Health {
    /// Taken when the service starts.
    keeper: Mutex<Option<(Keeper, Asked)>>,
}

impl Health {
    fn new(keeper: Keeper, asked: Asked) -> Self {
        Health {
            keeper: Mutex::new(Some((keeper, asked))),
        }
    }
}

#[async_trait]
impl BackgroundService for Health {
    async fn start_with_ready_notifier(
        &self,
        _shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let taken = self
            .keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some((mut keeper, asked)) = taken else {
            return;
        };
        keeper.start().await;
        ready.notify_ready();
        keeper.serve(asked).await;
        // Draining requests still need hosts, so the checks go on until the process ends.
        std::future::pending().await
    }
}
