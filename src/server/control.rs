//! The control socket: a Unix socket for commands to this process, for its owner and root only.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use log::{error, warn};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep};

use crate::admin::{Api, Readiness};

use super::handover::is_trusted;

/// After an error of `accept`: the usual one, too many open files, does not pass at once.
const PAUSE: Duration = Duration::from_millis(100);

/// A successor that serves takes commands within milliseconds, unless it was told to do so elsewhere. Shorter than
/// [`LAME_DUCK`](super::edge::LAME_DUCK), which is when the process may end.
const MOMENTS: Duration = Duration::from_secs(1);

/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(5);

/// Fails if another process takes commands at `path`.
pub(super) fn refuse_second(path: &Path) -> Result<(), String> {
    let Ok(other) = std::os::unix::net::UnixStream::connect(path) else {
        return Ok(());
    };
    let pid = getsockopt(&other, PeerCredentials).map_or_else(
        |_| "unknown".to_owned(),
        |credentials| credentials.pid().to_string(),
    );
    let path = path.display();
    Err(format!(
        "another ballast runs with this file, pid {pid}: it answers on {path}"
    ))
}

/// The socket's file, as long as it is the one that this process made.
#[derive(Debug, Default)]
pub(super) struct SocketFile(Mutex<Option<(PathBuf, u64)>>);

impl SocketFile {
    /// Removes the file unless a successor has put its own there.
    pub(super) fn remove(&self) {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, inode)) = made.take()
            && fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == inode)
        {
            let _ = fs::remove_file(path);
        }
    }

    /// Waits until a successor has put its own there, as long as that can be a matter of moments.
    pub(super) async fn replaced(&self) {
        let made = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let Some((path, inode)) = made else { return };
        let deadline = Instant::now() + MOMENTS;
        while Instant::now() < deadline
            && fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == inode)
        {
            sleep(LOOK).await;
        }
    }

    /// Takes the place of whatever socket is at `path`, in one step.
    fn listen(&self, path: &Path) -> io::Result<UnixListener> {
        let mut own = path.as_os_str().to_owned();
        own.push("~");
        let own = PathBuf::from(own);
        match fs::remove_file(&own) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&own)?;
        fs::set_permissions(&own, Permissions::from_mode(0o600))?;
        let inode = fs::symlink_metadata(&own)?.ino();
        fs::rename(&own, path)?;
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *made = Some((path.to_owned(), inode));
        Ok(listener)
    }
}

/// Takes commands as soon as the process serves: until then a predecessor does.
pub(super) struct Control {
    pub(super) path: PathBuf,
    pub(super) file: Arc<SocketFile>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) api: Arc<Api>,
}

#[async_trait]
impl BackgroundService for Control {
    async fn start(&self, shutdown: ShutdownWatch) {
        self.readiness.wait().await;
        let listener = match self.file.listen(&self.path) {
            Ok(listener) => listener,
            Err(error) => {
                // The process serves; that it cannot be commanded is no reason to stop.
                let path = self.path.display();
                error!("cannot listen on the control socket {path}: {error}");
                return;
            }
        };
        loop {
            match listener.accept().await {
                Ok((connection, _)) if is_allowed(&connection) => {
                    let (api, shutdown) = (Arc::clone(&self.api), shutdown.clone());
                    tokio::spawn(async move {
                        let stream: Stream = Box::new(L4Stream::from(connection));
                        api.process_new(stream, &shutdown).await
                    });
                }
                Ok(_) => warn!("control socket: refused a peer that is neither our user nor root"),
                Err(error) => {
                    error!("control socket: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Whether the peer is our user or root. The mode of the file says the same, and can be changed by hand.
fn is_allowed(connection: &UnixStream) -> bool {
    connection
        .peer_cred()
        .is_ok_and(|peer| is_trusted(peer.uid()))
}
