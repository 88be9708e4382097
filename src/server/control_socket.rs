//! The control socket: a Unix socket for commands to this process, open to its owner and root only.
//!
//! The start opens it before the process reports that it is ready: a command that follows the report finds a socket. The
//! service accepts the connections once the process is ready.

use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use log::{error, warn};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

use crate::admin::ApiServer;
use crate::supervisor::{Supervisor, Task};

use super::handover::is_trusted;
use super::lifecycle::Lifecycle;
use super::socket_file::SocketFile;

/// The pause after an error of `accept`: the usual cause, too many open files, lasts longer than a retry.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Fails if a process other than `predecessor` listens on `path`.
pub(super) fn ensure_single_instance(path: &Path, predecessor: Option<Pid>) -> Result<(), String> {
    let Ok(other) = std::os::unix::net::UnixStream::connect(path) else {
        return Ok(());
    };
    let pid = getsockopt(&other, PeerCredentials).map(|found| Pid::from_raw(found.pid()));
    if predecessor.is_some() && pid.ok() == predecessor {
        return Ok(());
    }
    let pid = pid.map_or_else(|_| "unknown".to_owned(), |pid| pid.to_string());
    let path = path.display();
    Err(format!(
        "another ballast runs with this file, pid {pid}: it answers on {path}"
    ))
}

/// The file of the control socket. Its listeners go to the [`ControlService`].
#[derive(Debug)]
pub(super) struct ControlSocket {
    path: PathBuf,
    file: SocketFile,
    opened: mpsc::UnboundedSender<StdUnixListener>,
}

impl ControlSocket {
    /// The socket at `path`, not open yet, and the receiver of its listeners.
    pub(super) fn new(path: PathBuf) -> (Self, mpsc::UnboundedReceiver<StdUnixListener>) {
        let (opened, listeners) = mpsc::unbounded_channel();
        let file = SocketFile::default();
        (ControlSocket { path, file, opened }, listeners)
    }

    /// Listens, in the place of another process or of an earlier listener of this one. A failure is logged: a process
    /// without a control socket still serves.
    pub(super) fn open(&self) {
        match self.file.listen(&self.path) {
            // The receiver is gone only if this process ends.
            Ok(listener) => drop(self.opened.send(listener)),
            Err(error) => {
                let path = self.path.display();
                error!("cannot listen on the control socket {path}: {error}");
            }
        }
    }

    /// Removes the file unless another process has replaced it.
    pub(super) fn remove(&self) {
        self.file.remove();
    }

    /// Waits until another process has replaced the file, for `wait` at most.
    pub(super) async fn wait_replaced(&self, wait: Duration) {
        self.file.wait_replaced(wait).await;
    }
}

/// Accepts commands as soon as the process is ready; until then a predecessor does.
pub(super) struct ControlService {
    listeners: Mutex<mpsc::UnboundedReceiver<StdUnixListener>>,
    api_server: Arc<ApiServer>,
    lifecycle: Arc<Lifecycle>,
}

impl ControlService {
    pub(super) fn new(
        listeners: mpsc::UnboundedReceiver<StdUnixListener>,
        api_server: ApiServer,
        lifecycle: Arc<Lifecycle>,
    ) -> Self {
        ControlService {
            listeners: Mutex::new(listeners),
            api_server: Arc::new(api_server),
            lifecycle,
        }
    }
}

#[async_trait]
impl BackgroundService for ControlService {
    async fn start(&self, shutdown: ShutdownWatch) {
        let mut listeners = self.listeners.lock().await;
        self.lifecycle.wait_ready().await;
        let mut latest = listeners.recv().await;
        while let Some(listener) = latest {
            latest = match UnixListener::from_std(listener) {
                Ok(listener) => tokio::select! {
                    () = self.keep_accepting(&listener, &shutdown) => None,
                    // A failed successor had replaced the socket file.
                    reopened = listeners.recv() => reopened,
                },
                Err(error) => {
                    error!("the control socket cannot be watched: {error}");
                    listeners.recv().await
                }
            };
        }
    }
}

impl ControlService {
    /// Accepts commands; restarts after a panic. Never returns.
    async fn keep_accepting(&self, listener: &UnixListener, shutdown: &ShutdownWatch) {
        let mut supervisor = Supervisor::new(Task::Control, "");
        loop {
            supervisor.run(self.accept(listener, shutdown)).await;
        }
    }

    async fn accept(&self, listener: &UnixListener, shutdown: &ShutdownWatch) {
        loop {
            match listener.accept().await {
                Ok((connection, _)) if is_allowed(&connection) => {
                    let (api_server, shutdown) = (Arc::clone(&self.api_server), shutdown.clone());
                    tokio::spawn(async move {
                        let stream: Stream = Box::new(L4Stream::from(connection));
                        api_server.process_new(stream, &shutdown).await
                    });
                }
                Ok(_) => warn!("control socket: refused a peer that is neither our user nor root"),
                Err(error) => {
                    error!("control socket: {error}");
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }
}

/// Whether the peer is our user or root. The mode of the file enforces the same, but can be changed by hand.
fn is_allowed(connection: &UnixStream) -> bool {
    connection
        .peer_cred()
        .is_ok_and(|peer| is_trusted(peer.uid()))
}
