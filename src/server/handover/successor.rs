//! The successor's side of a handover: receives the predecessor's state, prepares itself, then receives the sockets.

use std::collections::HashSet;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{info, warn};
use nix::unistd::{Pid, close};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::connection::{HandoverConnection, HandoverError};
use super::expected_probes::ExpectedProbes;
use super::handover_listener::is_trusted;
use super::message::{HandoverState, Message, VERSION, import};
use super::successor_process;
use crate::config::ListenerAddress;
use crate::server::socket_file::is_same_socket;

/// A predecessor sends `welcome` within milliseconds, or it hangs.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a serving successor waits for `farewell`; afterwards it takes it for sent.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(10);

/// A request to take over from the serving process.
#[derive(Debug)]
pub struct TakeoverRequest {
    /// The upgrade socket to connect to; `None`: the configured one.
    socket: Option<PathBuf>,
    wait: Duration,
}

impl TakeoverRequest {
    /// Call it before anything else. A process started by its predecessor may be only the first of two stages, which
    /// starts the second and does not return from here. `wait` bounds the wait for the listeners: a successor started
    /// by hand needs an operator who sends SIGQUIT to the predecessor.
    ///
    /// # Errors
    /// One line for a person; the process has to end.
    pub fn prepare(wait: Duration) -> Result<Self, String> {
        let socket = successor_process::run_stage()?;
        Ok(TakeoverRequest { socket, wait })
    }

    /// Tells the predecessor that has started this process why it cannot start. An operator who has started it reads the
    /// reason in the output.
    pub fn report_failure(&self, reason: &str) {
        if self.socket.is_some() {
            successor_process::report_failure(reason);
        }
    }
}

/// A successor that has received `welcome`.
#[derive(Debug)]
pub(in crate::server) struct Successor {
    connection: std::os::unix::net::UnixStream,
    /// The path of the predecessor's upgrade socket.
    upgrade_socket: PathBuf,
    predecessor: Option<Pid>,
    wait: Duration,
    listeners: HashSet<ListenerAddress>,
    handover_state: HandoverState,
}

impl Successor {
    /// Connects to the serving process; without a known upgrade socket, to `path`. `None`: no process serves.
    ///
    /// # Errors
    /// Why this process cannot take over.
    pub(in crate::server) fn connect(
        upgrade: &TakeoverRequest,
        path: &Path,
    ) -> Result<Option<Self>, String> {
        let path = upgrade.socket.as_deref().unwrap_or(path);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot connect to the predecessor: {error}"))?;
        runtime.block_on(async {
            let stream = match UnixStream::connect(path).await {
                Ok(stream) => stream,
                Err(error) => return no_predecessor(path, &error),
            };
            let mut connection = HandoverConnection::new(stream);
            let welcome = timeout(WELCOME_TIMEOUT, handshake(&mut connection)).await;
            let failed = |reason: String| format!("no handover from {}: {reason}", path.display());
            match welcome {
                Err(_) => Err(failed("the predecessor does not respond".to_owned())),
                Ok(Err(HandoverError::Closed)) => {
                    warn!("the predecessor has gone; starting without it");
                    Ok(None)
                }
                Ok(Err(error)) => Err(failed(error.to_string())),
                Ok(Ok((listeners, handover_state))) => {
                    let peer = connection
                        .peer()
                        .map_err(|error| failed(error.to_string()))?;
                    let connection = connection
                        .into_std()
                        .map_err(|error| failed(error.to_string()))?;
                    Ok(Some(Successor {
                        connection,
                        upgrade_socket: path.to_owned(),
                        predecessor: peer.pid,
                        wait: upgrade.wait,
                        listeners,
                        handover_state,
                    }))
                }
            }
        })
    }

    /// Whether the upgrade socket of the predecessor is at `path`.
    pub(in crate::server) fn is_connected_to(&self, path: &Path) -> bool {
        is_same_socket(&self.upgrade_socket, path)
    }

    /// The pid of the serving process, if the kernel knows it.
    pub(in crate::server) fn predecessor(&self) -> Option<Pid> {
        self.predecessor
    }

    /// Whether the predecessor will hand over the socket of `address`.
    pub(in crate::server) fn inherits(&self, address: &ListenerAddress) -> bool {
        self.listeners.contains(address)
    }

    /// The state received with `welcome`.
    pub(in crate::server) fn handover_state(&self) -> &HandoverState {
        &self.handover_state
    }

    /// Sends `prepared`, and waits for the sockets of `addresses`. `None`: the predecessor has died, and no process
    /// listens.
    ///
    /// # Errors
    /// Why there is no handover; this process has to end.
    pub(in crate::server) async fn receive_listeners(
        self,
        addresses: &[ListenerAddress],
    ) -> Result<Option<Takeover>, String> {
        let wait = self.wait;
        let receiving = async {
            let mut connection = HandoverConnection::new(UnixStream::from_std(self.connection)?);
            connection.send(&Message::Prepared).await?;
            info!("prepared; waiting for the listeners of the predecessor");
            let (listeners, handover_state) = match connection.receive().await? {
                Message::Take {
                    listeners,
                    state,
                    reloaded,
                } => {
                    let handover_state = HandoverState {
                        reloaded,
                        ..import(state)
                    };
                    (listeners, handover_state)
                }
                other => {
                    return Err(HandoverError::Broken(format!(
                        "it sent {} out of turn",
                        other.name()
                    )));
                }
            };
            let sockets = connection.receive_sockets(listeners.len()).await?;
            let (sockets, unused): (Vec<_>, Vec<_>) = listeners
                .into_iter()
                .zip(sockets)
                .partition(|(address, _)| addresses.contains(address));
            for (address, socket) in unused {
                info!("no longer listening on {address}");
                let _ = close(socket);
            }
            Ok(Takeover {
                connection,
                sockets,
                handover_state,
            })
        };
        match timeout(wait, receiving).await {
            Ok(Ok(takeover)) => Ok(Some(takeover)),
            Ok(Err(HandoverError::Closed)) => {
                warn!("the predecessor has died; listening without it");
                Ok(None)
            }
            Ok(Err(error)) => Err(format!("no handover: {error}")),
            Err(_) => Err(format!(
                "no handover: the predecessor got no SIGQUIT within {wait:?}"
            )),
        }
    }
}

/// The sockets and the state that a successor has received.
#[derive(Debug)]
pub(in crate::server) struct Takeover {
    connection: HandoverConnection,
    /// The listening sockets by address.
    pub(in crate::server) sockets: Vec<(ListenerAddress, RawFd)>,
    /// The predecessor's state at the time of `take`.
    pub(in crate::server) handover_state: HandoverState,
}

impl Takeover {
    /// Confirms that this process serves on `listeners`. `Ok`: it is the only one from now on; with the connection for
    /// the watch, if the predecessor watches.
    ///
    /// # Errors
    /// Why this process has to end.
    pub(in crate::server) async fn confirm(
        mut self,
        listeners: Vec<ListenerAddress>,
    ) -> Result<Option<PredecessorWatch>, String> {
        let farewell = async {
            self.connection.send(&Message::Ready { listeners }).await?;
            self.connection.receive().await
        };
        match timeout(FAREWELL_TIMEOUT, farewell).await {
            Ok(Ok(Message::Farewell { watch: true })) => {
                Ok(Some(PredecessorWatch(self.connection)))
            }
            // A dead or hanging predecessor does not serve.
            Err(_) | Ok(Ok(_) | Err(HandoverError::Closed)) => Ok(None),
            Ok(Err(error)) => Err(error.to_string()),
        }
    }

    /// Tells the predecessor why this process does not take over.
    pub(in crate::server) fn refuse(&self, reason: &str) {
        self.connection.refuse(reason);
    }
}

/// The connection over which a predecessor watches this process.
#[derive(Debug)]
pub(in crate::server) struct PredecessorWatch(HandoverConnection);

impl PredecessorWatch {
    /// Responds to probes until the watch is over, or until `leave` completes because this process stops or has handed
    /// over itself.
    ///
    /// # Errors
    /// The predecessor serves again; this process has to end.
    pub(in crate::server) async fn answer(
        mut self,
        probes: &ExpectedProbes,
        leave: impl Future<Output = ()>,
    ) -> Result<(), String> {
        tokio::pin!(leave);
        let outcome = loop {
            tokio::select! {
                message = self.0.receive() => match message {
                    Ok(Message::Probe { from }) => {
                        probes.expect(&from);
                        let accepted = probes.take_accepted();
                        if self.0.write(&Message::Alive { accepted }).await.is_err() {
                            break Ok(());
                        }
                    }
                    Err(HandoverError::Refused(reason)) => break Err(reason),
                    // The watch is over, or the predecessor has died.
                    _ => break Ok(()),
                },
                () = &mut leave => {
                    let _ = self.0.write(&Message::Leaving).await;
                    break Ok(());
                }
            }
        };
        probes.clear();
        outcome
    }
}

async fn handshake(
    connection: &mut HandoverConnection,
) -> Result<(HashSet<ListenerAddress>, HandoverState), HandoverError> {
    let peer = connection.peer()?;
    if !is_trusted(peer.uid) {
        let uid = peer.uid;
        return Err(HandoverError::Broken(format!("it runs as user {uid}")));
    }
    connection
        .send(&Message::Hello {
            version: VERSION,
            watched: true,
        })
        .await?;
    match connection.receive().await? {
        Message::Welcome { listeners, state } => {
            Ok((listeners.into_iter().collect(), import(state)))
        }
        other => Err(HandoverError::Broken(format!(
            "it sent {} out of turn",
            other.name()
        ))),
    }
}

fn no_predecessor<T>(path: &Path, error: &io::Error) -> Result<Option<T>, String> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            warn!(
                "no process to take over from at {}; starting without one",
                path.display()
            );
            Ok(None)
        }
        _ => Err(format!("no handover from {}: {error}", path.display())),
    }
}
