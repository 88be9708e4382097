//! The start of a server, step by step: a predecessor, the shared state, the listeners, the services.

use std::fmt;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use pingora::proxy::HttpProxy;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use tokio::sync::mpsc;

use super::StartError;
use super::acme_service::AcmeService;
use super::admin_service::AdminService;
use super::certificate_watch::CertificateWatch;
use super::control_socket::{ControlService, ControlSocket, ensure_single_instance};
use super::disk_watch::RunningBinary;
use super::edge::{ConnectionHandlers, Connections, Edge};
use super::event_loop::{EventContext, EventLoop};
use super::handover::{HandoverCoordinator, HandoverSources, Program, Successor, TakeoverRequest};
use super::health_service::HealthService;
use super::history_service::HistoryService;
use super::listener_files::ListenerFiles;
use super::listening_service::{ListeningService, REBIND_TIMEOUT, addresses};
use super::metrics_source::ServerMetricsSource;
use super::pingora_options::{server_conf, server_options};
use super::process_identity::{IdentityContext, ProcessIdentity};
use super::reload_preview::ReloadPreviewer;
use super::reloader::Reloader;
use super::running_process::RunningProcess;
use super::runtime_paths::RuntimePaths;
use super::shared_state::{InitialState, SharedState};
use super::tls::TlsState;
use super::{config_summary, descriptor_check};
use crate::admin::{Api, ApiServer, Caller, ProcessCommand};
use crate::config::{Config, ListenerAddress};
use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::proxy::Proxy;

/// Bound of the queue of commands from the control socket.
const MAX_QUEUED_COMMANDS: usize = 16;

/// A server that has bound its addresses but does not accept connections yet.
pub struct PreparedServer {
    server: Server,
    event_loop: EventLoop,
    process_identity: Arc<ProcessIdentity>,
}

impl fmt::Debug for PreparedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedServer").finish_non_exhaustive()
    }
}

impl PreparedServer {
    /// Builds everything that can fail, and binds the listeners. `file` is the file that `config` was read from; without
    /// it a reload is refused. With `upgrade` the listeners and the state of the hosts come from the serving process, if
    /// there is one.
    ///
    /// # Errors
    /// If the server cannot start.
    pub fn new(
        config: Config,
        file: Option<&Path>,
        upgrade: Option<&TakeoverRequest>,
    ) -> Result<Self, StartError> {
        descriptor_check::ensure_sufficient(addresses(&config).len())?;
        log_start(&config, file, upgrade.is_some());
        let program = Program::running().map_err(|error| {
            StartError::Listen(format!("cannot find out which program this is: {error}"))
        })?;
        let binary = RunningBinary::at(program.path());
        let runtime_paths =
            RuntimePaths::resolve(&config.server, file).map_err(StartError::Files)?;
        let successor = connect_predecessor(upgrade, &runtime_paths)?;
        // A missing predecessor may have been killed just now; the kernel may still hold its sockets.
        let bind_timeout = match upgrade.is_some() && successor.is_none() {
            true => REBIND_TIMEOUT,
            false => Duration::ZERO,
        };
        // While a predecessor serves, the upgrade socket is the predecessor's.
        let upgrade_socket_is_free = match &successor {
            Some(successor) => !successor.is_connected_to(&runtime_paths.upgrade_socket),
            None => true,
        };
        let (control_socket, control_listeners) =
            ControlSocket::new(runtime_paths.control_socket.clone());
        let control_socket = Arc::new(control_socket);

        let initial = InitialState::build(config, file, successor.as_ref())?;
        let shared = initial.shared.clone();
        let files = Arc::new(ListenerFiles::new(&initial.config.listeners));
        let handover = handover_coordinator(&initial, program, file.is_some(), &files);
        let process_identity =
            process_identity(&initial, runtime_paths, &handover, &control_socket, &files);

        let mut server = Server::new_with_opt_and_conf(None, server_conf(initial.idle));
        let mut edge = edge(&initial, &server);
        let connections = edge.connections();
        let (api, commands) = api(&shared, Arc::clone(&connections));
        let control = ControlService::new(
            control_listeners,
            ApiServer::new(Arc::clone(&api), Caller::Owner),
            Arc::clone(&shared.lifecycle),
        );
        let tls = add_listeners(&mut edge, &initial)?;
        let mut listening = ListeningService::new(
            edge,
            (addresses(&initial.config), files),
            successor,
            Arc::clone(&process_identity),
            Arc::clone(&shared.lifecycle),
            bind_timeout,
        )
        .map_err(StartError::Listen)?;
        if upgrade_socket_is_free {
            process_identity
                .open_handover_listener()
                .map_err(StartError::Listen)?;
        }

        server.add_service(background_service(
            "history",
            HistoryService(Arc::clone(&api)),
        ));
        if let Some(address) = initial.config.admin.address {
            server.add_service(AdminService::new(
                address,
                listening.release(address),
                api,
                Arc::clone(&shared.lifecycle),
            ));
        }
        server.add_service(background_service("control", control));
        let previewer = ReloadPreviewer::new(
            file.map(Path::to_owned),
            initial.file_config.clone(),
            Arc::clone(&shared.overrides),
            Arc::clone(shared.discovery.table()),
        );
        let health = health_service(initial, (file, binary), previewer.clone(), tls);
        let health = server.add_service(background_service("health", health));
        let proxy = server.add_service(listening);
        proxy.add_dependency(&health);

        let context = EventContext {
            lifecycle: shared.lifecycle,
            change_locks: shared.change_locks,
            counts: Arc::clone(&shared.observers.counts),
            active: shared.active,
            traffic: shared.traffic,
            connections,
            loaded_config: shared.loaded_config,
            event_log: shared.event_log,
            reloads: shared.reloads,
            previewer,
            handover,
            process_identity: Arc::clone(&process_identity),
            control_socket,
            logs: Arc::clone(&shared.observers.logs),
        };
        Ok(PreparedServer {
            server,
            event_loop: EventLoop::new(context, commands),
            process_identity,
        })
    }

    /// Checks every host once, starts to listen, and serves until a signal ends the process. A drain exits the process
    /// from within, as soon as the last request has ended.
    pub fn run(self) {
        self.server.run(RunArgs {
            shutdown_signal: Box::new(self.event_loop),
        });
        self.process_identity.shut_down();
        info!("stopped");
    }
}

fn log_start(config: &Config, file: Option<&Path>, is_upgrade: bool) {
    let mode = match is_upgrade {
        true => "starting in the place of another process",
        false => "starting",
    };
    let version = env!("CARGO_PKG_VERSION");
    let pid = process::id();
    info!(
        "ballast {version}, pid {pid}: {mode}; {}",
        config_summary::summarize(config, file)
    );
    config.warnings().iter().for_each(|line| warn!("{line}"));
}

/// Connects to the serving process, if `upgrade` asks for it, and makes sure that no other process than that one uses the
/// runtime files.
fn connect_predecessor(
    upgrade: Option<&TakeoverRequest>,
    runtime_paths: &RuntimePaths,
) -> Result<Option<Successor>, StartError> {
    let connect = |upgrade| Successor::connect(upgrade, &runtime_paths.upgrade_socket);
    let successor = match upgrade.map(connect) {
        Some(connected) => connected.map_err(StartError::Listen)?,
        None => None,
    };
    let predecessor = successor.as_ref().and_then(Successor::predecessor);
    ensure_single_instance(&runtime_paths.control_socket, predecessor)
        .map_err(StartError::Files)?;
    Ok(successor)
}

fn handover_coordinator(
    initial: &InitialState,
    program: Program,
    reloadable: bool,
    files: &Arc<ListenerFiles>,
) -> Arc<HandoverCoordinator> {
    let shared = &initial.shared;
    Arc::new(HandoverCoordinator::new(
        program,
        reloadable,
        initial.config.server.grace_period,
        HandoverSources {
            active: Arc::clone(&shared.active),
            overrides: Arc::clone(&shared.overrides),
            loaded_config: Arc::clone(&shared.loaded_config),
            ticket_keys: Arc::clone(&shared.ticket_keys),
            sources: Arc::clone(shared.discovery.table()),
            files: Arc::clone(files),
        },
        Arc::clone(&shared.lifecycle),
        shared.change_locks.clone(),
    ))
}

fn process_identity(
    initial: &InitialState,
    runtime_paths: RuntimePaths,
    handover: &Arc<HandoverCoordinator>,
    control_socket: &Arc<ControlSocket>,
    files: &Arc<ListenerFiles>,
) -> Arc<ProcessIdentity> {
    let listeners = initial.config.listeners.iter();
    let shared = &initial.shared;
    Arc::new(ProcessIdentity::new(
        runtime_paths,
        IdentityContext {
            handover: Arc::clone(handover),
            active: Arc::clone(&shared.active),
            event_log: Arc::clone(&shared.event_log),
            reloads: shared.reloads.clone(),
            control_socket: Arc::clone(control_socket),
            logs: Arc::clone(&shared.observers.logs),
            lifecycle: Arc::clone(&shared.lifecycle),
            listeners: listeners.map(|l| l.address.clone()).collect(),
            files: Arc::clone(files),
            probes: Arc::clone(&shared.probes),
        },
    ))
}

/// The edge without listeners: the engine, and Pingora's proxy.
fn edge(initial: &InitialState, server: &Server) -> Edge {
    let InitialState {
        shared,
        config,
        idle,
        connection_capacity,
        ..
    } = initial;
    let proxy = Proxy::new(Arc::clone(&shared.active), Arc::clone(&shared.traffic))
        .with_challenges(Arc::clone(&shared.acme.challenges));
    let engine = Engine::new(
        proxy.clone(),
        Arc::clone(&shared.active),
        Arc::clone(&shared.traffic),
        usize::try_from(*idle).unwrap_or(usize::MAX),
    );
    let mut pingora = HttpProxy::new(proxy, Arc::clone(&server.configuration));
    pingora.handle_init_modules();
    pingora.server_options = Some(server_options());
    Edge::new(
        ConnectionHandlers { engine, pingora },
        Arc::clone(&shared.active),
        Arc::clone(&shared.traffic),
        Arc::clone(&shared.observers.counts),
        Connections::with_capacity(*connection_capacity, config.server.threads),
        Arc::clone(&shared.lifecycle),
        Arc::clone(&shared.probes),
    )
}

/// The admin API, and the commands that it sends to the event loop.
fn api(
    shared: &SharedState,
    connections: Arc<Connections>,
) -> (Arc<Api>, mpsc::Receiver<ProcessCommand>) {
    let metrics_source = ServerMetricsSource {
        loaded_config: Arc::clone(&shared.loaded_config),
        active: Arc::clone(&shared.active),
        traffic: Arc::clone(&shared.traffic),
        connections: Arc::clone(&connections),
        observers: shared.observers.clone(),
        acme: Arc::clone(&shared.acme.status),
        sources: Arc::clone(shared.discovery.table()),
        cluster: shared.cluster.clone(),
        drift: shared.drift_source(),
    };
    let counts = Arc::clone(&shared.observers.counts);
    let process = RunningProcess {
        loaded_config: Arc::clone(&shared.loaded_config),
        active: Arc::clone(&shared.active),
        traffic: Arc::clone(&shared.traffic),
        connections,
        lifecycle: Arc::clone(&shared.lifecycle),
        event_log: Arc::clone(&shared.event_log),
        reloads: shared.reloads.clone(),
        changes: Arc::clone(&shared.change_locks.changes),
        history: shared.observers.history(),
        metrics: Arc::new(Metrics::new(counts, metrics_source)),
        acme: Arc::clone(&shared.acme.status),
        cluster: shared.cluster.clone(),
        sources: Arc::clone(shared.discovery.table()),
        drift: shared.drift_source(),
    };
    let (commands, received) = mpsc::channel(MAX_QUEUED_COMMANDS);
    (Arc::new(Api::new(Arc::new(process), commands)), received)
}

/// Adds the listeners, and returns what may change about those with TLS.
fn add_listeners(
    edge: &mut Edge,
    initial: &InitialState,
) -> Result<Vec<(ListenerAddress, Arc<TlsState>)>, StartError> {
    let shared = &initial.shared;
    let counters = shared.observers.counts.tickets();
    let mut states = Vec::new();
    for listener in &initial.config.listeners {
        let state = TlsState::of(
            listener,
            &shared.ticket_keys,
            &counters,
            &shared.acme.challenges,
        )?;
        edge.listen(listener.address.clone(), state.clone());
        states.extend(state.map(|state| (listener.address.clone(), state)));
    }
    Ok(states)
}

fn health_service(
    initial: InitialState,
    (file, binary): (Option<&Path>, RunningBinary),
    previewer: ReloadPreviewer,
    tls: Vec<(ListenerAddress, Arc<TlsState>)>,
) -> HealthService {
    let shared = initial.shared;
    let acme = AcmeService::new(
        &shared.acme,
        Arc::clone(&shared.event_log),
        Arc::clone(&shared.observers.counts),
        Arc::clone(&shared.lifecycle),
        shared.cluster.clone(),
    );
    let disk_watch = shared.disk_watch(file, binary);
    let reloader = Reloader {
        previewer,
        file: file.map(Path::to_owned),
        file_config: initial.file_config,
        found_config: initial.found_config,
        discovery: shared.discovery,
        cluster: shared.cluster.clone(),
        ticket_keys: shared.ticket_keys,
        cluster_secret: None,
        config: initial.config,
        overrides: shared.overrides,
        host_registry: initial.host_registry,
        active: shared.active,
        loaded_config: shared.loaded_config,
        tls,
        certificate_watch: CertificateWatch::new(),
        acme: shared.acme,
        event_log: shared.event_log,
        checks: Vec::new(),
        observers: shared.observers,
    };
    HealthService::new(
        reloader,
        initial.reload_commands,
        acme,
        disk_watch,
        shared.lifecycle,
    )
}
