//! Which connections are admitted on a listener, and the address of the client of each.

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use log::debug;
use pingora::server::ShutdownWatch;
use tokio::time::timeout;

use crate::metrics::RejectReason;

use super::connections::ConnectionGuard;
use super::listener_context::ListenerContext;
use super::proxy_protocol::{self, ClientAddresses, ProxyHeaderError};
use super::workers::WorkerGuard;

impl ListenerContext {
    /// Spawns an admitted connection on the worker with the fewest connections.
    pub(super) fn dispatch(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: Option<SocketAddr>,
        shutdown: &ShutdownWatch,
    ) {
        self.accepted.inc();
        let mut guard = self.connections.track(&self.open);
        let (context, shutdown) = (Arc::clone(self), shutdown.clone());
        match self.active.load().proxy_protocol(&self.address) {
            None => {
                if self.admits(peer, &mut guard) {
                    let (worker, worker_guard) = self.workers.choose();
                    let guards = (guard, worker_guard);
                    let client = ClientAddresses::of_socket(peer);
                    worker.spawn(context.serve(stream.into(), client, guards, shutdown));
                }
            }
            Some(proxies) if proxies.trusts(ip_of(peer)) => {
                let (worker, worker_guard) = self.workers.choose();
                let guards = (guard, worker_guard);
                worker.spawn(context.serve_proxy_protocol(stream, peer, guards, shutdown));
            }
            Some(_) => {
                self.counts.count_reject(RejectReason::Denied);
                let peer = PeerText(peer);
                let line = format!("{}: {peer} is not a trusted proxy", self.address);
                self.connections.warn_rate_limited(&line);
            }
        }
    }

    /// Whether a connection of `client` is admitted; if so, it counts towards that client's limit.
    fn admits(&self, client: Option<SocketAddr>, guard: &mut ConnectionGuard) -> bool {
        let active = self.active.load();
        if !active.admits(&self.address, ip_of(client)) {
            self.counts.count_reject(RejectReason::Denied);
            let client = PeerText(client);
            debug!("{}: {client} is denied by the access list", self.address);
            return false;
        }
        let limit = active.limits.max_connections_per_client;
        if client.is_some_and(|client| !guard.count_for_client(client.ip(), limit)) {
            let client = PeerText(client);
            self.counts.count_reject(RejectReason::TooMany);
            debug!("{}: {client} has too many connections", self.address);
            return false;
        }
        true
    }

    /// Serves a connection of a trusted proxy, which sends a PROXY header with the client's address.
    async fn serve_proxy_protocol(
        self: Arc<Self>,
        stream: TcpStream,
        proxy: Option<SocketAddr>,
        (mut guard, worker_guard): (ConnectionGuard, WorkerGuard),
        shutdown: ShutdownWatch,
    ) {
        let limit = self.active.load().timeouts.client_head;
        let Some(mut stream) = self.register(stream.into()) else {
            return;
        };
        let client = match timeout(limit, proxy_protocol::read_header(&mut stream)).await {
            Ok(Ok(announced)) => announced.unwrap_or(ClientAddresses::of_socket(proxy)),
            // Health checks of proxies close like this.
            Ok(Err(ProxyHeaderError::Closed)) => {
                return debug!("{}: {} closed", self.address, PeerText(proxy));
            }
            Ok(Err(error)) => return self.reject_missing_proxy_header(proxy, &error),
            Err(_) => return self.reject_missing_proxy_header(proxy, &"no PROXY header in time"),
        };
        if self.admits(client.client, &mut guard) {
            let guards = (guard, worker_guard);
            self.serve(stream.into(), client, guards, shutdown).await;
        }
    }

    /// Counts and logs a connection without a valid PROXY header.
    fn reject_missing_proxy_header(&self, proxy: Option<SocketAddr>, why: &dyn fmt::Display) {
        let proxy = PeerText(proxy);
        self.counts.count_reject(RejectReason::NoProxyHeader);
        self.connections
            .warn_rate_limited(&format!("{}: {proxy}: {why}", self.address));
    }
}

pub(super) fn ip_of(peer: Option<SocketAddr>) -> Option<IpAddr> {
    peer.map(|peer| peer.ip())
}

/// A peer in lines of the log.
pub(super) struct PeerText(pub(super) Option<SocketAddr>);

impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(peer) => peer.fmt(f),
            None => f.write_str("a peer"),
        }
    }
}
