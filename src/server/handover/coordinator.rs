//! The predecessor's side of a handover: accepts successors, and hands over to one of them.

mod attempt;

use std::process;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use log::{info, warn};
use pingora::server::ListenFds;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::attempt::HandoverAttempt;
use super::connection::{HandoverConnection, HandoverError, Peer};
use super::handover_listener::{HandoverListener, is_trusted};
use super::message::{Message, VERSION, export};
use super::successor_process::Program;
use crate::admin::LoadedConfig;
use crate::config::ListenerAddress;
use crate::discovery::SourceTable;
use crate::health::FIRST_ROUND;
use crate::proxy::ActiveConfig;
use crate::server::change_lock::ChangeLocks;
use crate::server::lifecycle::Lifecycle;
use crate::server::listener_files::ListenerFiles;
use crate::server::runtime_overrides::RuntimeOverrides;
use crate::server::socket_file::SocketFile;
use crate::server::tls::TicketKeys;
use crate::supervisor::{Supervisor, Task};
use crate::timestamp::Timestamp;

/// The time limit of a handover: reading the file, the certificates and resolving names take seconds at most; then
/// hosts are checked once.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(30).saturating_add(FIRST_ROUND);

/// A successor sends `hello` within milliseconds.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

const HANDOVER_RUNNING: &str = "a handover is running";

/// Why there was no handover. This process serves.
#[derive(Debug)]
pub(in crate::server) enum HandoverFailure {
    /// It has accepted connections all along.
    Serving(String),
    /// It had stopped to accept connections, and accepts them again. The files of the successor remain.
    Resumed(String),
}

/// The sources of the state that a successor receives.
#[derive(Debug)]
pub(in crate::server) struct HandoverSources {
    pub(in crate::server) active: Arc<ArcSwap<ActiveConfig>>,
    pub(in crate::server) overrides: Arc<ArcSwap<RuntimeOverrides>>,
    pub(in crate::server) loaded_config: Arc<ArcSwap<LoadedConfig>>,
    pub(in crate::server) ticket_keys: Arc<TicketKeys>,
    /// What sources of hosts have told.
    pub(in crate::server) sources: Arc<SourceTable>,
    pub(in crate::server) files: Arc<ListenerFiles>,
}

/// Hands over the listeners of this process.
#[derive(Debug)]
pub(in crate::server) struct HandoverCoordinator {
    program: Program,
    /// Why this process can never hand over; `None`: it can.
    obstacle: Option<&'static str>,
    grace: Duration,
    active: Arc<ArcSwap<ActiveConfig>>,
    overrides: Arc<ArcSwap<RuntimeOverrides>>,
    loaded_config: Arc<ArcSwap<LoadedConfig>>,
    ticket_keys: Arc<TicketKeys>,
    sources: Arc<SourceTable>,
    files: Arc<ListenerFiles>,
    lifecycle: Arc<Lifecycle>,
    change_locks: ChangeLocks,
    /// Set once the process listens.
    sockets: OnceLock<Sockets>,
    /// The socket on which successors connect, once it is open.
    upgrade_socket: Mutex<Option<UpgradeSocket>>,
    pending: Mutex<PendingSuccessor>,
}

/// The listening sockets by address, in Pingora's table; they stay there while this process accepts.
struct Sockets {
    addresses: Vec<ListenerAddress>,
    table: ListenFds,
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.addresses.fmt(f)
    }
}

/// The upgrade socket and its accept loop.
#[derive(Debug)]
struct UpgradeSocket {
    file: SocketFile,
    /// The task that accepts successors.
    accepting: JoinHandle<()>,
}

/// A connected successor, and when the configuration in effect at that moment was loaded.
#[derive(Debug)]
struct WaitingSuccessor {
    connection: HandoverConnection,
    loaded: Timestamp,
    /// Whether it supports the watch; versions before the watch do not.
    watched: bool,
}

/// What happens to a successor that connects.
#[derive(Debug)]
enum PendingSuccessor {
    /// It waits for SIGQUIT; the latest one replaces an earlier one.
    Accepting(Option<WaitingSuccessor>),
    /// A handover has started a process and expects its connection here.
    Expected(mpsc::Sender<(Peer, WaitingSuccessor)>),
    /// A handover is running; others are refused.
    Closed,
}

impl HandoverCoordinator {
    /// `reloadable`: whether there is a file that a successor can read.
    pub(in crate::server) fn new(
        program: Program,
        reloadable: bool,
        grace: Duration,
        sources: HandoverSources,
        lifecycle: Arc<Lifecycle>,
        change_locks: ChangeLocks,
    ) -> Self {
        let HandoverSources {
            active,
            overrides,
            loaded_config,
            ticket_keys,
            sources,
            files,
        } = sources;
        let obstacle = match (reloadable, process::id()) {
            (false, _) => {
                Some("there is no file for a successor, and the hosts are in this process")
            }
            (_, 1) => Some(
                "this is process 1, whose end would end its container and the successor in it; \
                 reload in place or replace the container",
            ),
            _ => None,
        };
        HandoverCoordinator {
            program,
            obstacle,
            grace,
            active,
            overrides,
            loaded_config,
            ticket_keys,
            sources,
            files,
            lifecycle,
            change_locks,
            sockets: OnceLock::new(),
            upgrade_socket: Mutex::new(None),
            pending: Mutex::new(PendingSuccessor::Accepting(None)),
        }
    }

    /// Why this process can never hand over; `None`: it can.
    pub(in crate::server) fn obstacle(&self) -> Option<&'static str> {
        self.obstacle
    }

    /// Starts to accept successors through `handover_listener`. The process listens on `addresses`, whose sockets are
    /// in `table`. Call it once.
    ///
    /// # Errors
    /// The socket cannot be registered with the runtime.
    pub(in crate::server) fn start(
        self: &Arc<Self>,
        addresses: Vec<ListenerAddress>,
        table: ListenFds,
        handover_listener: HandoverListener,
    ) -> std::io::Result<()> {
        // There is only one call, so the cell is empty.
        let _ = self.sockets.set(Sockets { addresses, table });
        self.listen(handover_listener)
    }

    /// Accepts successors through `handover_listener`, and stops to accept them through an earlier one.
    ///
    /// # Errors
    /// The socket cannot be registered with the runtime.
    pub(in crate::server) fn listen(
        self: &Arc<Self>,
        handover_listener: HandoverListener,
    ) -> std::io::Result<()> {
        let (listener, file) = handover_listener.into_parts();
        let listener = UnixListener::from_std(listener)?;
        let this = Arc::clone(self);
        let accepting = tokio::spawn(async move {
            let mut supervisor = Supervisor::new(Task::Handover, "");
            loop {
                supervisor.run(this.accept(&listener)).await;
            }
        });
        if let Some(earlier) = lock(&self.upgrade_socket).replace(UpgradeSocket { file, accepting })
        {
            earlier.accepting.abort();
        }
        Ok(())
    }

    /// Accepts successors; never returns.
    async fn accept(self: &Arc<Self>, listener: &UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(
                        Arc::clone(self).handle_connection(HandoverConnection::new(stream)),
                    );
                }
                Err(error) => {
                    warn!("cannot accept a successor: {error}");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Removes the file of the upgrade socket, unless a successor has replaced it.
    pub(in crate::server) fn remove_socket(&self) {
        if let Some(upgrade_socket) = &*lock(&self.upgrade_socket) {
            upgrade_socket.file.remove();
        }
    }

    /// Hands over to the waiting successor, or else to one that is started now. Once it serves, this process stops
    /// accepting connections and watches it. After `Ok` the caller must drain. Dropping the future ends the attempt and
    /// the successor; if the successor serves already, only the watch.
    ///
    /// # Errors
    /// Why there was no handover. The successor has been ended.
    pub(in crate::server) async fn hand_over(&self) -> Result<(), HandoverFailure> {
        if let Some(obstacle) = self.obstacle {
            return Err(HandoverFailure::Serving(obstacle.to_owned()));
        }
        if self.sockets.get().is_none() {
            let reason = "this process does not serve yet".to_owned();
            return Err(HandoverFailure::Serving(reason));
        }
        let mut attempt = HandoverAttempt::start(self);
        let outcome = match timeout(HANDOVER_TIMEOUT, attempt.run()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!(
                "the successor was not ready after {HANDOVER_TIMEOUT:?}"
            )),
        };
        if let Err(reason) = outcome {
            attempt.set_refusal(&reason);
            return Err(HandoverFailure::Serving(reason));
        }
        attempt.watch_successor().await
    }

    /// Refuses further successors, and returns the waiting one.
    fn close_pending(&self) -> Option<WaitingSuccessor> {
        match std::mem::replace(&mut *lock(&self.pending), PendingSuccessor::Closed) {
            PendingSuccessor::Accepting(waiting) => waiting,
            _ => None,
        }
    }

    /// Performs the handshake with a connecting successor.
    async fn handle_connection(self: Arc<Self>, mut connection: HandoverConnection) {
        match timeout(HELLO_TIMEOUT, self.handshake(&mut connection)).await {
            Ok(Ok((peer, loaded, watched))) => self.enqueue(
                peer,
                WaitingSuccessor {
                    connection,
                    loaded,
                    watched,
                },
            ),
            Ok(Err(HandoverError::Closed)) => {}
            Ok(Err(error)) => {
                warn!("a successor was rejected: {error}");
                connection.refuse(&error.to_string());
            }
            Err(_) => warn!("a successor was rejected: it sent no hello in time"),
        }
    }

    /// Returns the successor's identity, the load time of the configuration in effect, and whether it supports the
    /// watch.
    async fn handshake(
        &self,
        connection: &mut HandoverConnection,
    ) -> Result<(Peer, Timestamp, bool), HandoverError> {
        let peer = connection.peer()?;
        if !is_trusted(peer.uid) {
            return Err(HandoverError::Broken(format!(
                "it runs as user {}",
                peer.uid
            )));
        }
        let watched = match connection.receive().await? {
            Message::Hello {
                version: VERSION,
                watched,
            } => watched,
            Message::Hello { version, .. } => {
                return Err(HandoverError::Broken(format!(
                    "it speaks version {version} of the protocol, not {VERSION}"
                )));
            }
            other => return Err(unexpected(&other)),
        };
        let loaded = self.loaded_config.load().loaded;
        let listeners = self.sockets.get().map(|sockets| sockets.addresses.clone());
        connection
            .send(&Message::Welcome {
                listeners: listeners.unwrap_or_default(),
                state: export(
                    &self.active.load().pools,
                    &self.overrides.load(),
                    &self.ticket_keys,
                    &self.sources,
                ),
            })
            .await?;
        Ok((peer, loaded, watched))
    }

    fn enqueue(&self, peer: Peer, waiting: WaitingSuccessor) {
        match &mut *lock(&self.pending) {
            PendingSuccessor::Accepting(slot) => {
                info!("a successor has connected and waits for SIGQUIT");
                if let Some(earlier) = slot.replace(waiting) {
                    earlier.connection.refuse("another successor has connected");
                }
            }
            PendingSuccessor::Expected(slot) => {
                if let Err(error) = slot.try_send((peer, waiting)) {
                    let (_, waiting) = error.into_inner();
                    waiting.connection.refuse(HANDOVER_RUNNING);
                }
            }
            PendingSuccessor::Closed => waiting.connection.refuse(HANDOVER_RUNNING),
        }
    }
}

fn unexpected(message: &Message) -> HandoverError {
    HandoverError::Broken(format!("it sent {} out of turn", message.name()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // No update under these locks can be left half done, so a poisoned lock is usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
