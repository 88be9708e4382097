//! The composition root: builds every part of the server from a configuration, binds the listeners, and runs until a
//! signal ends the process.

mod admin_service;
mod change_lock;
mod config_diff;
mod config_summary;
mod control_socket;
mod descriptor_check;
mod edge;
mod event_loop;
mod handover;
mod keepalive_pool_size;
mod lifecycle;
mod listening_service;
mod metrics_source;
mod pid_file;
mod reload_plan;
mod reload_preview;
mod reloader;
mod request_observers;
mod running_process;
mod runtime_overrides;
pub mod runtime_paths;
mod serving_state;
mod socket_file;
mod systemd;
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
use crate::admin::{Api, ApiServer, Caller, LoadedConfig, Readiness};
use crate::config::{Config, Listener};
use crate::engine::Engine;
use crate::event_log::EventLog;
use crate::metrics::Metrics;
use crate::pool::{HostRegistry, PoolError};
use crate::proxy::{ActiveConfig, MAX_ATTEMPTS, Proxy, TrafficState};
use crate::supervisor::{Supervisor, Task};
use crate::timestamp::Timestamp;

use admin_service::AdminService;
use change_lock::ChangeLocks;
use control_socket::ControlService;
use edge::{ConnectionHandlers, Connections, Edge, connection_capacity, raise_descriptors};
use event_loop::{EventContext, EventLoop};
pub use handover::TakeoverRequest;
use handover::{
    ExpectedProbes, HandoverCoordinator, HandoverSources, Program, Successor, check_directory_mode,
};
use lifecycle::{Lifecycle, LifecycleContext};
use listening_service::{ListeningService, REBIND_TIMEOUT};
use metrics_source::ServerMetricsSource;
use reload_preview::ReloadPreviewer;
use reloader::{Reloader, ReloaderCommands, ReloaderHandle};
use request_observers::RequestObservers;
use running_process::RunningProcess;
use runtime_overrides::RuntimeOverrides;
use runtime_paths::RuntimePaths;
use serving_state::ServingState;
use socket_file::SocketFile;
use tls::Certificates;

/// Why the server did not start.
#[derive(Debug)]
pub enum StartError {
    /// A pool of the configuration cannot be built.
    Pool(PoolError),
    /// A certificate or its key is unusable.
    Certificate(String),
    /// A listener cannot be bound.
    Listen(String),
    /// A runtime file (pid file, socket, access log) cannot be created, or another process owns it.
    Files(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Pool(error) => error.fmt(f),
            StartError::Certificate(reason)
            | StartError::Listen(reason)
            | StartError::Files(reason) => f.write_str(reason),
        }
    }
}

impl Error for StartError {}

/// Bound of the queue of commands from the control socket.
const MAX_QUEUED_COMMANDS: usize = 16;

/// The longest grace period that a configuration may set.
const MAX_GRACE_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

/// A server that has bound its addresses but does not accept connections yet.
pub struct PreparedServer {
    server: Server,
    event_loop: EventLoop,
    lifecycle: Arc<Lifecycle>,
}

impl fmt::Debug for PreparedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

impl PreparedServer {
    /// Builds everything that can fail, and binds the listeners. `file` is the file that `config` was read from;
    /// without it a reload is refused. With `upgrade` the listeners and the state of the hosts come from the serving
    /// process, if there is one.
    ///
    /// # Errors
    /// If the server cannot start.
    pub fn new(
        config: Config,
        file: Option<&Path>,
        upgrade: Option<&TakeoverRequest>,
    ) -> Result<Self, StartError> {
        let listeners = config.listeners.iter().map(|listener| listener.address);
        descriptor_check::ensure_sufficient(listeners.chain(config.admin.address))?;
        let way = match upgrade {
            Some(_) => "starting in the place of another process",
            None => "starting",
        };
        let version = env!("CARGO_PKG_VERSION");
        let pid = process::id();
        info!(
            "ballast {version}, pid {pid}: {way}; {}",
            config_summary::summarize(&config, file)
        );
        config.warnings().iter().for_each(|line| warn!("{line}"));
        let program = Program::running().map_err(|error| {
            StartError::Listen(format!("cannot find out which program this is: {error}"))
        })?;
        let runtime_paths =
            RuntimePaths::resolve(&config.server, file).map_err(StartError::Files)?;
        let event_log = Arc::new(EventLog::default());
        let connect = |upgrade| Successor::connect(upgrade, &runtime_paths.upgrade_socket);
        let successor = match upgrade.map(connect) {
            Some(connected) => connected.map_err(StartError::Listen)?,
            None => None,
        };
        let has_successor = successor.is_some();
        // A missing predecessor may have been killed just now; the kernel may still hold its sockets.
        let bind_timeout = match upgrade.is_some() && !has_successor {
            true => REBIND_TIMEOUT,
            false => Duration::ZERO,
        };
        let predecessor = successor.as_ref().and_then(Successor::predecessor);
        control_socket::ensure_single_instance(&runtime_paths.control_socket, predecessor)
            .map_err(StartError::Files)?;
        // While a predecessor serves, the upgrade socket is the predecessor's.
        let upgrade_socket_is_free = match &successor {
            Some(successor) => !successor.is_connected_to(&runtime_paths.upgrade_socket),
            None => true,
        };
        let handover_state = successor.as_ref().map(Successor::handover_state);
        let mut overrides = handover_state
            .map_or_else(RuntimeOverrides::default, |handover_state| {
                handover_state.overrides.clone()
            });
        let file_config = config;
        let (config, dropped) = overrides.apply_to(&file_config);
        dropped.iter().for_each(|line| info!("{line}"));
        let mut host_registry = HostRegistry::with_event_log(Arc::clone(&event_log));
        let mut active =
            ActiveConfig::new(&config, &mut host_registry).map_err(StartError::Pool)?;
        let observers = RequestObservers::default();
        active.observers = observers
            .build(&config, &active, None)
            .map_err(StartError::Files)?;
        for state in handover_state
            .iter()
            .flat_map(|handover_state| &handover_state.pools)
        {
            let mut pools = active.pools.iter();
            if let Some(pool) = pools.find(|pool| pool.name() == state.name) {
                pool.restore(state);
            }
        }
        let active = Arc::new(ArcSwap::from_pointee(active));
        let overrides = Arc::new(ArcSwap::from_pointee(overrides));
        let (reloads, reload_commands) = ReloaderHandle::channel();
        let descriptors = raise_descriptors();
        let idle = keepalive_pool_size::keepalive_pool_size(&config, descriptors);
        let connection_capacity = connection_capacity(descriptors, idle);
        let traffic = Arc::new(TrafficState::with_limit(connection_capacity));
        let readiness = Arc::new(Readiness::default());
        let control_socket = Arc::new(SocketFile::default());
        let control_path = runtime_paths.control_socket.clone();
        let grace = config.server.grace_period;
        let loaded_config = Arc::new(ArcSwap::from_pointee(LoadedConfig {
            config: config.clone(),
            file: file.map(Path::to_owned),
            loaded: Timestamp::now(),
        }));
        let state = Arc::new(ServingState::new(Arc::clone(&traffic)));
        let change_locks = ChangeLocks::default();
        let probes = Arc::new(ExpectedProbes::default());
        let listeners = config.listeners.iter().map(|listener| listener.address);
        let handover = Arc::new(HandoverCoordinator::new(
            program,
            file.is_some(),
            grace,
            HandoverSources {
                active: Arc::clone(&active),
                overrides: Arc::clone(&overrides),
                loaded_config: Arc::clone(&loaded_config),
            },
            Arc::clone(&state),
            change_locks.clone(),
        ));
        let lifecycle = Arc::new(Lifecycle::new(
            runtime_paths,
            LifecycleContext {
                handover: Arc::clone(&handover),
                active: Arc::clone(&active),
                event_log: Arc::clone(&event_log),
                reloads: reloads.clone(),
                readiness: Arc::clone(&readiness),
                control: Arc::clone(&control_socket),
                logs: Arc::clone(&observers.logs),
                state: Arc::clone(&state),
                listeners: listeners.collect(),
                probes: Arc::clone(&probes),
            },
        ));

        let mut server = Server::new_with_opt_and_conf(None, server_conf(idle));
        let proxy = Proxy::new(Arc::clone(&active), Arc::clone(&traffic));
        let max_idle = usize::try_from(idle).unwrap_or(usize::MAX);
        let engine = Engine::new(
            proxy.clone(),
            Arc::clone(&active),
            Arc::clone(&traffic),
            max_idle,
        );
        let mut proxy = HttpProxy::new(proxy, Arc::clone(&server.configuration));
        proxy.handle_init_modules();
        proxy.server_options = Some(server_options());
        let counts = Arc::clone(&observers.counts);
        let mut service = Edge::new(
            ConnectionHandlers {
                engine,
                pingora: proxy,
            },
            Arc::clone(&active),
            Arc::clone(&traffic),
            Arc::clone(&counts),
            Connections::with_capacity(connection_capacity, config.server.threads),
            Arc::clone(&state),
            probes,
        );
        let metrics_source = ServerMetricsSource {
            loaded_config: Arc::clone(&loaded_config),
            active: Arc::clone(&active),
            traffic: Arc::clone(&traffic),
            connections: service.connections(),
            observers: observers.clone(),
        };
        let process = RunningProcess {
            loaded_config: Arc::clone(&loaded_config),
            active: Arc::clone(&active),
            traffic: Arc::clone(&traffic),
            connections: service.connections(),
            readiness: Arc::clone(&readiness),
            event_log: Arc::clone(&event_log),
            reloads: reloads.clone(),
            changes: Arc::clone(&change_locks.changes),
            history: observers.history(),
            metrics: Arc::new(Metrics::new(Arc::clone(&counts), metrics_source)),
        };
        let (commands, received) = mpsc::channel(MAX_QUEUED_COMMANDS);
        let api = Arc::new(Api::new(Arc::new(process), commands));
        let control = ControlService {
            path: control_path,
            file: Arc::clone(&control_socket),
            readiness: Arc::clone(&readiness),
            api_server: Arc::new(ApiServer::new(Arc::clone(&api), Caller::Owner)),
            state: Arc::clone(&state),
        };
        let mut certificates = Vec::new();
        for listener in &config.listeners {
            let tls = build_tls(listener)?;
            let (settings, shown) = tls.unzip();
            service.listen(listener.address, settings);
            certificates.extend(shown.map(|shown| (listener.address, shown)));
        }
        let addresses = config.listeners.iter().map(|listener| listener.address);
        let addresses = addresses.chain(config.admin.address).collect();
        let listening = ListeningService::new(
            service,
            addresses,
            successor,
            Arc::clone(&lifecycle),
            bind_timeout,
        );
        let mut listening = listening.map_err(StartError::Listen)?;
        if upgrade_socket_is_free {
            lifecycle
                .open_handover_listener()
                .map_err(StartError::Listen)?;
        }
        server.add_service(background_service(
            "history",
            HistoryService(Arc::clone(&api)),
        ));
        if let Some(address) = config.admin.address {
            let socket = listening.release(address);
            let (readiness, lifecycle) = (Arc::clone(&readiness), Arc::clone(&lifecycle));
            let state = Arc::clone(&state);
            let admin = AdminService::new(address, socket, api, readiness, lifecycle, state);
            server.add_service(admin);
        }
        server.add_service(background_service("control", control));

        let logs = Arc::clone(&observers.logs);
        let previewer = ReloadPreviewer::new(
            file.map(Path::to_owned),
            file_config.clone(),
            Arc::clone(&overrides),
        );
        let reloader = Reloader {
            previewer: previewer.clone(),
            file: file.map(Path::to_owned),
            file_config,
            config,
            overrides,
            host_registry,
            active,
            loaded_config: Arc::clone(&loaded_config),
            certificates,
            checks: Vec::new(),
            observers,
        };
        let health = server.add_service(background_service(
            "health",
            HealthService::new(reloader, reload_commands),
        ));
        let proxy = server.add_service(listening);
        proxy.add_dependency(&health);
        let event_loop = EventLoop::new(
            EventContext {
                state,
                change_locks,
                counts,
                traffic,
                loaded_config,
                event_log,
                reloads,
                previewer,
                handover,
                lifecycle: Arc::clone(&lifecycle),
                control_socket,
                logs,
            },
            received,
        );
        Ok(PreparedServer {
            server,
            event_loop,
            lifecycle,
        })
    }

    /// Checks every host once, starts to listen, and serves until a signal ends the process. A drain exits the process
    /// from within, as soon as the last request has ended.
    pub fn run(self) {
        self.server.run(RunArgs {
            shutdown_signal: Box::new(self.event_loop),
        });
        self.lifecycle.shut_down();
        info!("stopped");
    }
}

/// Checks whether a server could start with this configuration, without binding an address.
///
/// # Errors
/// The first reason why it could not.
pub fn check(config: &Config) -> Result<(), StartError> {
    ActiveConfig::new(config, &mut HostRegistry::new()).map_err(StartError::Pool)?;
    if let Some(log) = &config.access_log {
        access_log::check_writable(&log.path).map_err(StartError::Files)?;
    }
    if let Some(socket) = &config.server.upgrade_socket {
        check_directory_mode(socket).map_err(StartError::Files)?;
    }
    config
        .listeners
        .iter()
        .try_for_each(|listener| build_tls(listener).map(drop))
}

/// The TLS settings and the certificates of a listener; `None` for a listener without TLS.
fn build_tls(listener: &Listener) -> Result<Option<(TlsSettings, Arc<Certificates>)>, StartError> {
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
        // Connections are served by our own worker threads.
        threads: 1,
        upstream_keepalive_pool_size: usize::try_from(idle).unwrap_or(usize::MAX),
        max_retries: MAX_ATTEMPTS,
        work_stealing: false,
        // A backstop only: the drain exits the process earlier, while Pingora would sleep the whole period. It is
        // larger than any grace period that a reload may set.
        grace_period_seconds: Some(MAX_GRACE_PERIOD.as_secs() + 1),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    }
}

fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    // The proxy itself refuses CONNECT, with its own error response.
    options.allow_connect_method_proxying = true;
    options
}

/// Ticks the history and the subscribers of the API, on a thread of its own: a large pool takes noticeable time.
struct HistoryService(Arc<Api>);

#[async_trait]
impl BackgroundService for HistoryService {
    async fn start(&self, _shutdown: ShutdownWatch) {
        // It runs during a drain, too: operators watch a draining process.
        let mut supervisor = Supervisor::new(Task::History, "");
        while supervisor.run(self.0.publish_updates()).await.is_none() {}
    }
}

/// Runs health checks and reloads on a thread of its own; ready after the first round of checks.
struct HealthService {
    /// `None` once the service has started.
    reloader: Mutex<Option<(Reloader, ReloaderCommands)>>,
}

impl HealthService {
    fn new(reloader: Reloader, reload_commands: ReloaderCommands) -> Self {
        HealthService {
            reloader: Mutex::new(Some((reloader, reload_commands))),
        }
    }
}

#[async_trait]
impl BackgroundService for HealthService {
    async fn start_with_ready_notifier(
        &self,
        _shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let taken = self
            .reloader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some((mut reloader, mut reload_commands)) = taken else {
            return;
        };
        reloader.start().await;
        ready.notify_ready();
        let mut supervisor = Supervisor::new(Task::Reload, "");
        while supervisor
            .run(reloader.serve(&mut reload_commands))
            .await
            .is_none()
        {}
        // Draining requests still choose hosts, so health checks run until the process ends.
        std::future::pending().await
    }
}
