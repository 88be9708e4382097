//! The control socket: a Unix socket for commands to this process, open to its owner and root only.

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
use tokio::time::sleep;

use crate::admin::{ApiServer, Readiness};
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

/// Accepts commands as soon as the process serves; until then a predecessor does.
pub(super) struct ControlService {
    pub(super) path: PathBuf,
    pub(super) file: Arc<SocketFile>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) api_server: Arc<ApiServer>,
    pub(super) lifecycle: Arc<Lifecycle>,
}

#[async_trait]
impl BackgroundService for ControlService {
    async fn start(&self, shutdown: ShutdownWatch) {
        self.readiness.wait().await;
        loop {
            let listener = self.file.listen(&self.path);
            let listener = match listener.and_then(UnixListener::from_std) {
                Ok(listener) => listener,
                Err(error) => {
                    // A process without a control socket still serves.
                    let path = self.path.display();
                    error!("cannot listen on the control socket {path}: {error}");
                    return;
                }
            };
            tokio::select! {
                () = self.keep_accepting(&listener, &shutdown) => {}
                // The failed successor has replaced the socket file; listen again.
                () = self.lifecycle.resumed() => {}
            }
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
