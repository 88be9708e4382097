//! One listener: accepts connections while there is capacity.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::RawFd;
use std::sync::Arc;

use log::debug;
use nix::errno::Errno;
use pingora::server::ShutdownWatch;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;

use crate::server::handover::ExpectedProbes;

use super::listener_context::ListenerContext;

/// Connections that are accepted in a row before the accepted ones are served; few, so that they are still in the CPU's
/// caches.
const BATCH: usize = 4;

/// A listener. It is closed when accepting ends, however long its connections last: the kernel would keep queueing
/// connections on an open socket that no process serves.
pub(super) struct AcceptLoop {
    pub(super) listener: AsyncFd<TcpListener>,
    /// The descriptor of the same socket in the table for successors.
    pub(super) inherited_fd: RawFd,
    /// True while no connection is accepted.
    pub(super) closing: ShutdownWatch,
    /// Probe connections of a predecessor that watches this process.
    pub(super) probes: Arc<ExpectedProbes>,
    pub(super) context: Arc<ListenerContext>,
}

impl AcceptLoop {
    /// Accepts connections until the process stops; pauses while a successor accepts them.
    pub(super) async fn accept(&self, mut shutdown: ShutdownWatch) {
        let mut closing = self.closing.clone();
        loop {
            let accepts = !*closing.borrow_and_update();
            tokio::select! {
                // A connection that arrives after a handover belongs to the successor, even if this task has not run
                // since.
                biased;
                changed = closing.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                changed = shutdown.changed() => {
                    if changed.is_err() || *shutdown.borrow() {
                        return;
                    }
                }
                () = self.accept_some(), if accepts => {}
            }
        }
    }

    /// Waits for connections and accepts the queued ones, up to [`BATCH`]. Then the worker's other tasks run.
    async fn accept_some(&self) {
        let ListenerContext {
            address,
            active,
            connections,
            ..
        } = &*self.context;
        let limit = || active.load().limits.max_connections;
        connections.wait_capacity(limit).await;
        let mut ready = match self.listener.readable().await {
            Ok(ready) => ready,
            // The runtime is shutting down, and this task with it.
            Err(error) => {
                debug!("{address}: {error}");
                return std::future::pending().await;
            }
        };
        for _ in 0..BATCH {
            if !connections.has_capacity(limit()) {
                return;
            }
            let Ok(accepted) = ready.try_io(|listener| accept(listener.get_ref())) else {
                // No connection waits to be accepted.
                return;
            };
            match accepted {
                Ok((_, Some(peer))) if self.probes.is_probe(&peer) => {}
                Ok((stream, peer)) => {
                    // What has no IP address has connected to a Unix socket.
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    self.context.dispatch(stream, peer, &self.closing);
                }
                Err(error) if is_resource_exhaustion(&error) => {
                    connections.warn_rate_limited(&format!(
                        "{address}: no connection can be accepted: {error}"
                    ));
                    return connections.wait_one_closed().await;
                }
                // The client has disconnected already.
                Err(error) => debug!("{address}: {error}"),
            }
        }
        // More connections may wait, but so may requests on those that are open.
        yield_now().await;
    }
}

/// Accepts a connection as a non-blocking socket. It is not registered with a runtime yet: a connection that ends after
/// its first request may never need that. A connection to a Unix socket becomes a `TcpStream` as well, see [`LazyTcp`](crate::engine::LazyTcp).
fn accept(listener: &TcpListener) -> io::Result<(TcpStream, Option<SocketAddrAny>)> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok((socket.into(), peer))
}

/// Whether accepting fails until descriptors or memory are released.
fn is_resource_exhaustion(error: &io::Error) -> bool {
    let error = error.raw_os_error().map(Errno::from_raw);
    matches!(
        error,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}
