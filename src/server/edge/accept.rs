//! One listener: accepts connections while there is room, and serves those that may come in.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use arc_swap::ArcSwap;
use log::debug;
use nix::errno::Errno;
use pingora::apps::ServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::proxy::{Client, Guarded, Proxy, Site};

use super::connections::{Connections, Present};
use super::read_ahead::ReadAhead;

/// A listener. It goes when nobody accepts any more, however long the connections that came through it last: the kernel
/// would go on taking connections for it that nobody serves.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    /// The number of the same socket in the table for successors.
    pub(super) passed: RawFd,
    pub(super) inside: Arc<Inside>,
}

/// What is behind a listener.
pub(super) struct Inside {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Arc<Acceptor>>,
    pub(super) app: Arc<Guarded<HttpProxy<Proxy>>>,
    pub(super) site: Arc<ArcSwap<Site>>,
    pub(super) connections: Arc<Connections>,
}

impl Door {
    /// Accepts until the process stops.
    pub(super) async fn accept(&self, mut shutdown: ShutdownWatch) {
        loop {
            tokio::select! {
                (stream, peer) = self.next() => self.inside.receive(stream, peer, &shutdown),
                changed = shutdown.changed() => {
                    if changed.is_err() || *shutdown.borrow() {
                        return;
                    }
                }
            }
        }
    }

    async fn next(&self) -> (TcpStream, SocketAddr) {
        let Inside {
            address,
            site,
            connections,
            ..
        } = &*self.inside;
        loop {
            connections
                .room(|| site.load().limits.max_connections)
                .await;
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_exhaustion(&error) => {
                    connections.tell(&format!(
                        "{address}: no connection can be accepted: {error}"
                    ));
                    connections.one_ended().await;
                }
                // The client has gone already.
                Err(error) => debug!("{address}: {error}"),
            }
        }
    }
}

impl Inside {
    /// Serves a connection in a task of its own, if it may stay.
    fn receive(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, shutdown: &ShutdownWatch) {
        let site = self.site.load();
        if !site.admits(self.address, peer.ip()) {
            return debug!("{}: {peer} is not let in", self.address);
        }
        let each = site.limits.max_connections_per_client;
        let Some(present) = self.connections.enter(peer.ip(), each) else {
            return debug!("{}: {peer} has too many connections", self.address);
        };
        let (inside, shutdown) = (Arc::clone(self), shutdown.clone());
        tokio::spawn(async move { inside.serve(stream, peer, present, shutdown).await });
    }

    async fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        _present: Present,
        shutdown: ShutdownWatch,
    ) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // It is new, so there is nothing in it yet.
        let _ = digest.peer_addr.set(Some(peer.into()));
        let mut stream = L4Stream::from(stream);
        stream.set_socket_digest(digest);
        let stream: Stream = match &self.tls {
            None => Box::new(stream),
            Some(acceptor) => {
                let limit = self.site.load().timeouts.client_head;
                let handshake = acceptor.tls_handshake(ReadAhead::new(stream));
                match timeout(limit, handshake).await {
                    Ok(Ok(stream)) => Box::new(stream),
                    Ok(Err(error)) => return debug!("{}: {peer}: {error}", self.address),
                    Err(_) => return debug!("{}: {peer}: no handshake in time", self.address),
                }
            }
        };
        let client = Client::new(stream, Arc::clone(&self.site));
        self.app.process_new(Box::new(client), &shutdown).await;
    }
}

/// Whether nothing can be accepted until something else ends.
fn is_exhaustion(error: &io::Error) -> bool {
    let error = error.raw_os_error().map(Errno::from_raw);
    matches!(
        error,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}
