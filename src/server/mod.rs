//! The composition root: builds everything from a configuration, binds, and runs until a signal ends it.

mod admin;
mod announce;
mod change_gate;
mod changes;
mod control;
mod descriptors;
mod edge;
mod forecast;
mod handover;
mod idle_pool;
mod listen;
mod measured;
mod observers;
mod overlay;
pub mod places;
mod plan;
mod reload;
mod running;
mod serving_state;
mod shutdown;
mod signals;
mod socket_file;
mod standing;
mod summary;
mod tls;

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{info, warn};
use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::HttpProxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownWatch};
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::{BackgroundService, background_service};
use tokio::sync::mpsc;

use crate::access_log;
use crate::admin::{Api, Current, Door, Entrance, Readiness};
use crate::config::{Config, Listener};
use crate::engine::Engine;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::moment::Moment;
use crate::pool::{HostBook, PoolError};
use crate::proxy::{MAX_ATTEMPTS, Proxy, Site, Traffic};
use crate::supervisor::{Supervisor, Task};

use admin::AdminListening;
use change_gate::Gates;
use control::Control;
use edge::{Connections, Drivers, Edge, affordable, raise_descriptors};
use forecast::Forecasts;
pub use handover::Upgrade;
use handover::{ExpectedProbes, Exported, Handover, Program, Successor, check_privacy};
use listen::{Listening, VACANCY};
use measured::Measured;
use observers::Observers;
use overlay::Overlay;
use places::Places;
use reload::{Asked, Keeper, Reloads};
use running::Process;
use serving_state::ServingState;
use signals::{Events, Serving};
use socket_file::SocketFile;
use standing::{Around, Standing};
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

/// Commands that may wait to be taken up.
const WAITING_COMMANDS: usize = 16;

/// The longest time to which a configuration can set a grace period.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// A server that is bound to its addresses but does not serve yet.
pub struct Prepared {
    server: Server,
    events: Events,
    standing: Arc<Standing>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

impl Prepared {
    /// Builds everything that can fail, and binds. `file` is where `config` comes from; without it there is nothing to
    /// reload. With `upgrade` the listeners and what is known of the hosts come from the process that serves, if there
    /// is one.
    ///
    /// # Errors
    /// If the server cannot start.
    pub fn new(
        config: Config,
        file: Option<&Path>,
        upgrade: Option<&Upgrade>,
    ) -> Result<Self, StartError> {
        let listeners = config.listeners.iter().map(|listener| listener.address);
        descriptors::suffice(listeners.chain(config.admin.address))?;
        let way = match upgrade {
            Some(_) => "starting in the place of another process",
            None => "starting",
        };
        let version = env!("CARGO_PKG_VERSION");
        let pid = process::id();
        info!(
            "ballast {version}, pid {pid}: {way}; {}",
            summary::of(&config, file)
        );
        config.warnings().iter().for_each(|line| warn!("{line}"));
        let program = Program::running().map_err(|error| {
            StartError::Listen(format!("cannot find out which program this is: {error}"))
        })?;
        let places = Places::make(&config.server, file).map_err(StartError::Places)?;
        let journal = Arc::new(Journal::default());
        let come = |upgrade| Successor::come(upgrade, &places.upgrade_socket);
        let successor = match upgrade.map(come) {
            Some(came) => came.map_err(StartError::Listen)?,
            None => None,
        };
        let comes = successor.is_some();
        // A predecessor that is not there any more may have died a moment ago.
        let patience = match upgrade.is_some() && !comes {
            true => VACANCY,
            false => Duration::ZERO,
        };
        let predecessor = successor.as_ref().and_then(Successor::predecessor);
        control::refuse_second(&places.control_socket, predecessor).map_err(StartError::Places)?;
        // A predecessor has it until this process serves.
        let door_is_free = match &successor {
            Some(successor) => !successor.came_to(&places.upgrade_socket),
            None => true,
        };
        let legacy = successor.as_ref().map(Successor::legacy);
        let mut overlay = legacy.map_or_else(Overlay::default, |legacy| legacy.overlay.clone());
        let said = config;
        let (config, dropped) = overlay.on(&said);
        dropped.iter().for_each(|line| info!("{line}"));
        let mut book = HostBook::with_journal(Arc::clone(&journal));
        let mut site = Site::new(&config, &mut book).map_err(StartError::Pool)?;
        let observers = Observers::default();
        site.observers = observers
            .of(&config, &site, None)
            .map_err(StartError::Places)?;
        for state in legacy.iter().flat_map(|legacy| &legacy.pools) {
            let mut pools = site.pools.iter();
            if let Some(pool) = pools.find(|pool| pool.name() == state.name) {
                pool.carry(state);
            }
        }
        let site = Arc::new(ArcSwap::from_pointee(site));
        let overlay = Arc::new(ArcSwap::from_pointee(overlay));
        let (reloads, asked) = Reloads::channel();
        let descriptors = raise_descriptors();
        let idle = idle_pool::size(&config, descriptors);
        let affordable = affordable(descriptors, idle);
        let traffic = Arc::new(Traffic::affording(affordable));
        let readiness = Arc::new(Readiness::default());
        let control_socket = Arc::new(SocketFile::default());
        let control_path = places.control_socket.clone();
        let grace = config.server.grace_period;
        let current = Arc::new(ArcSwap::from_pointee(Current {
            config: config.clone(),
            file: file.map(Path::to_owned),
            loaded: Moment::now(),
        }));
        let state = Arc::new(ServingState::new(Arc::clone(&traffic)));
        let gates = Gates::default();
        let probes = Arc::new(ExpectedProbes::default());
        let edges = config.listeners.iter().map(|listener| listener.address);
        let handover = Arc::new(Handover::new(
            program,
            file.is_some(),
            grace,
            Exported {
                site: Arc::clone(&site),
                overlay: Arc::clone(&overlay),
                current: Arc::clone(&current),
            },
            Arc::clone(&state),
            gates.clone(),
        ));
        let standing = Arc::new(Standing::new(
            places,
            Around {
                handover: Arc::clone(&handover),
                site: Arc::clone(&site),
                journal: Arc::clone(&journal),
                reloads: reloads.clone(),
                readiness: Arc::clone(&readiness),
                control: Arc::clone(&control_socket),
                logs: Arc::clone(&observers.logs),
                state: Arc::clone(&state),
                edges: edges.collect(),
                probes: Arc::clone(&probes),
            },
        ));

        let mut server = Server::new_with_opt_and_conf(None, server_conf(idle));
        let proxy = Proxy::new(Arc::clone(&site), Arc::clone(&traffic));
        let kept = usize::try_from(idle).unwrap_or(usize::MAX);
        let engine = Engine::new(proxy.clone(), Arc::clone(&site), Arc::clone(&traffic), kept);
        let mut proxy = HttpProxy::new(proxy, Arc::clone(&server.configuration));
        proxy.handle_init_modules();
        proxy.server_options = Some(server_options());
        let counts = Arc::clone(&observers.counts);
        let mut service = Edge::new(
            Drivers {
                engine,
                pingora: proxy,
            },
            Arc::clone(&site),
            Arc::clone(&traffic),
            Arc::clone(&counts),
            Connections::affording(affordable, config.server.threads),
            Arc::clone(&state),
            probes,
        );
        let measured = Measured {
            current: Arc::clone(&current),
            site: Arc::clone(&site),
            traffic: Arc::clone(&traffic),
            connections: service.connections(),
            observers: observers.clone(),
        };
        let process = Process {
            current: Arc::clone(&current),
            site: Arc::clone(&site),
            traffic: Arc::clone(&traffic),
            connections: service.connections(),
            readiness: Arc::clone(&readiness),
            journal: Arc::clone(&journal),
            reloads: reloads.clone(),
            changes: Arc::clone(&gates.changes),
            history: observers.history(),
            metrics: Arc::new(Metrics::new(Arc::clone(&counts), measured)),
        };
        let (commands, received) = mpsc::channel(WAITING_COMMANDS);
        let api = Arc::new(Api::new(Arc::new(process), commands));
        let control = Control {
            path: control_path,
            file: Arc::clone(&control_socket),
            readiness: Arc::clone(&readiness),
            entrance: Arc::new(Entrance::new(Arc::clone(&api), Door::Owner)),
            state: Arc::clone(&state),
        };
        let mut certificates = Vec::new();
        for listener in &config.listeners {
            let tls = endpoint(listener)?;
            let (settings, shown) = tls.unzip();
            service.listen(listener.address, settings);
            certificates.extend(shown.map(|shown| (listener.address, shown)));
        }
        let addresses = config.listeners.iter().map(|listener| listener.address);
        let addresses = addresses.chain(config.admin.address).collect();
        let listening = Listening::new(
            service,
            addresses,
            successor,
            Arc::clone(&standing),
            patience,
        );
        let mut listening = listening.map_err(StartError::Listen)?;
        if door_is_free {
            standing.open_door().map_err(StartError::Listen)?;
        }
        server.add_service(background_service("history", Seconds(Arc::clone(&api))));
        if let Some(address) = config.admin.address {
            let socket = listening.release(address);
            let (readiness, standing) = (Arc::clone(&readiness), Arc::clone(&standing));
            let state = Arc::clone(&state);
            let admin = AdminListening::new(address, socket, api, readiness, standing, state);
            server.add_service(admin);
        }
        server.add_service(background_service("control", control));

        let logs = Arc::clone(&observers.logs);
        let forecasts =
            Forecasts::new(file.map(Path::to_owned), said.clone(), Arc::clone(&overlay));
        let keeper = Keeper {
            forecasts: forecasts.clone(),
            file: file.map(Path::to_owned),
            said,
            config,
            overlay,
            book,
            site,
            current: Arc::clone(&current),
            certificates,
            checks: Vec::new(),
            observers,
        };
        let health = server.add_service(background_service("health", Health::new(keeper, asked)));
        let proxy = server.add_service(listening);
        proxy.add_dependency(&health);
        let events = Events::new(
            Serving {
                state,
                gates,
                counts,
                traffic,
                current,
                journal,
                reloads,
                forecasts,
                handover,
                standing: Arc::clone(&standing),
                control_socket,
                logs,
            },
            received,
        );
        Ok(Prepared {
            server,
            events,
            standing,
        })
    }

    /// Checks every host once, listens, and serves until a signal ends it. The process may end within, once the last
    /// request has.
    pub fn run(self) {
        self.server.run(RunArgs {
            shutdown_signal: Box::new(self.events),
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
    if let Some(log) = &config.access_log {
        access_log::check(&log.path).map_err(StartError::Places)?;
    }
    if let Some(socket) = &config.server.upgrade_socket {
        check_privacy(socket).map_err(StartError::Places)?;
    }
    config
        .listeners
        .iter()
        .try_for_each(|listener| endpoint(listener).map(drop))
}

/// The TLS of a listener that has it, and the certificates that it shows.
fn endpoint(listener: &Listener) -> Result<Option<(TlsSettings, Arc<Certificates>)>, StartError> {
    let Some(tls) = &listener.tls else {
        return Ok(None);
    };
    let certificates = Arc::new(Certificates::new(tls));
    let settings = tls::settings(Arc::clone(&certificates), tls.http2)
        .map_err(|error| StartError::Certificate(error.to_string()))?;
    Ok(Some((settings, certificates)))
}

fn server_conf(idle: u64) -> ServerConf {
    ServerConf {
        // The workers are threads of our own.
        threads: 1,
        upstream_keepalive_pool_size: usize::try_from(idle).unwrap_or(usize::MAX),
        max_retries: MAX_ATTEMPTS,
        work_stealing: false,
        // Only the backstop: `shutdown` ends the process before, and Pingora would sleep the whole time. A reload may
        // have set a longer grace period by then.
        grace_period_seconds: Some(LONGEST_GRACE.as_secs() + 1),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    }
}

fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    // So that the refusal of CONNECT is ours as well.
    options.allow_connect_method_proxying = true;
    options
}

/// The tick of the history and of whoever follows the API, on a thread of its own: for a large pool it is some work.
struct Seconds(Arc<Api>);

#[async_trait]
impl BackgroundService for Seconds {
    async fn start(&self, _shutdown: ShutdownWatch) {
        // A process that drains is watched as well.
        let mut supervisor = Supervisor::new(Task::History, "");
        while supervisor.watch(self.0.tick()).await.is_none() {}
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
        let Some((mut keeper, mut asked)) = taken else {
            return;
        };
        keeper.start().await;
        ready.notify_ready();
        let mut supervisor = Supervisor::new(Task::Reload, "");
        while supervisor.watch(keeper.serve(&mut asked)).await.is_none() {}
        // Draining requests still need hosts, so the checks go on until the process ends.
        std::future::pending().await
    }
}
