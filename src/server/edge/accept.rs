//! One listener: accepts connections while there is room, and serves those that may come in.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use arc_swap::ArcSwap;
use log::debug;
use nix::errno::Errno;
use pingora::listeners::ALPN;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest, Ssl, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use prometheus::IntCounter;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::config::Http1;
use crate::engine::{self, Engine, Tcp};
use crate::metrics::{Counts, Handshake, Turned};
use crate::proxy::{Client, Guarded, Proxy, Site};
use crate::server::handover::ExpectedProbes;

use super::connections::{Connections, Present};
use super::proxy_protocol::{self, ReadError};
use super::read_ahead::ReadAhead;
use super::workers::{Served, Workers};

/// Connections that are accepted before those that were are served, while the caches still know them.
const BATCH: usize = 4;

/// A listener. It goes when nobody accepts any more, however long the connections that came through it last: the kernel
/// would go on taking connections for it that nobody serves.
pub(super) struct Door {
    pub(super) listener: AsyncFd<TcpListener>,
    /// The number of the same socket in the table for successors.
    pub(super) passed: RawFd,
    /// True while no connection is accepted.
    pub(super) closing: ShutdownWatch,
    /// Connections of a predecessor, which watches this process.
    pub(super) probes: Arc<ExpectedProbes>,
    pub(super) inside: Arc<Inside>,
}

/// What is behind a listener.
pub(super) struct Inside {
    pub(super) address: SocketAddr,
    /// The port that clients are connected to.
    pub(super) port: u16,
    pub(super) tls: Option<Arc<Acceptor>>,
    pub(super) workers: Workers,
    pub(super) engine: Arc<Engine>,
    pub(super) app: Arc<Guarded<HttpProxy<Proxy>>>,
    pub(super) site: Arc<ArcSwap<Site>>,
    pub(super) connections: Arc<Connections>,
    /// Connections that came through this listener.
    pub(super) accepted: IntCounter,
    pub(super) counts: Arc<Counts>,
}

impl Door {
    /// Accepts until the process stops, but for the time in which a successor does.
    pub(super) async fn accept(&self, mut shutdown: ShutdownWatch) {
        let mut closing = self.closing.clone();
        loop {
            let accepts = !*closing.borrow_and_update();
            tokio::select! {
                () = self.accept_some(), if accepts => {}
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
            }
        }
    }

    /// Waits for connections and accepts those that have come, but not more than [`BATCH`] of them.
    async fn accept_some(&self) {
        let Inside {
            address,
            site,
            connections,
            ..
        } = &*self.inside;
        let limit = || site.load().limits.max_connections;
        connections.room(limit).await;
        let mut ready = match self.listener.readable().await {
            Ok(ready) => ready,
            // The runtime ends, and this with it.
            Err(error) => {
                debug!("{address}: {error}");
                return std::future::pending().await;
            }
        };
        for _ in 0..BATCH {
            if !connections.has_room(limit()) {
                return;
            }
            let Ok(accepted) = ready.try_io(|listener| accept(listener.get_ref())) else {
                // No connection waits to be accepted.
                return;
            };
            match accepted {
                Ok((_, peer)) if self.probes.is_probe(&peer) => {}
                Ok((stream, peer)) => self.inside.receive(stream, peer, &self.closing),
                Err(error) if is_exhaustion(&error) => {
                    connections.tell(&format!(
                        "{address}: no connection can be accepted: {error}"
                    ));
                    return connections.one_ended().await;
                }
                // The client has gone already.
                Err(error) => debug!("{address}: {error}"),
            }
        }
    }
}

/// Accepts a connection whose socket never blocks. It is in no runtime yet, since one that ends after its first request
/// need never be in any.
fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket.into(), SocketAddr::try_from(peer)?))
}

impl Inside {
    /// Has a connection served by the worker that has the fewest, if it may stay.
    fn receive(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, shutdown: &ShutdownWatch) {
        self.accepted.inc();
        let mut present = self.connections.enter();
        let (inside, shutdown) = (Arc::clone(self), shutdown.clone());
        match self.site.load().announcers(self.address) {
            None => {
                if self.lets_in(peer, &mut present) {
                    let (worker, served) = self.workers.choose();
                    let counted = (present, served);
                    worker.spawn(inside.serve(stream.into(), peer, counted, shutdown));
                }
            }
            Some(proxies) if proxies.trusts(peer.ip()) => {
                let (worker, served) = self.workers.choose();
                let counted = (present, served);
                worker.spawn(inside.serve_announced(stream, peer, counted, shutdown));
            }
            Some(_) => {
                self.counts.turn_away(Turned::Denied);
                let line = format!("{}: {peer} is none of the proxies here", self.address);
                self.connections.tell(&line);
            }
        }
    }

    /// Whether a connection of `client` may stay; it is counted as that client's then.
    fn lets_in(&self, client: SocketAddr, present: &mut Present) -> bool {
        let site = self.site.load();
        if !site.admits(self.address, client.ip()) {
            self.counts.turn_away(Turned::Denied);
            debug!("{}: {client} is not let in", self.address);
            return false;
        }
        let each = site.limits.max_connections_per_client;
        if !present.is_of(client.ip(), each) {
            self.counts.turn_away(Turned::TooMany);
            debug!("{}: {client} has too many connections", self.address);
            return false;
        }
        true
    }

    /// Serves a connection that a proxy has made for somebody else.
    async fn serve_announced(
        self: Arc<Self>,
        stream: TcpStream,
        proxy: SocketAddr,
        (mut present, served): (Present, Served),
        shutdown: ShutdownWatch,
    ) {
        let limit = self.site.load().timeouts.client_head;
        let Some(mut stream) = self.register(stream.into()) else {
            return;
        };
        let client = match timeout(limit, proxy_protocol::read(&mut stream)).await {
            Ok(Ok(client)) => client.unwrap_or(proxy),
            // As a proxy's health check does.
            Ok(Err(ReadError::Closed)) => return debug!("{}: {proxy} closed", self.address),
            Ok(Err(error)) => return self.is_unannounced(proxy, &error),
            Err(_) => return self.is_unannounced(proxy, &"no PROXY header in time"),
        };
        if self.lets_in(client, &mut present) {
            let counted = (present, served);
            self.serve(stream.into(), client, counted, shutdown).await;
        }
    }

    /// A proxy has not said whom a connection is for.
    fn is_unannounced(&self, proxy: SocketAddr, why: &dyn fmt::Display) {
        self.counts.turn_away(Turned::NoProxyHeader);
        self.connections
            .tell(&format!("{}: {proxy}: {why}", self.address));
    }

    async fn serve(
        self: Arc<Self>,
        stream: Tcp,
        address: SocketAddr,
        _counted: (Present, Served),
        shutdown: ShutdownWatch,
    ) {
        let peer = engine::Peer {
            address: Some(address.ip()),
            tls: self.tls.is_some(),
            port: Some(self.port),
        };
        let by_engine = self.site.load().http1 == Http1::Engine;
        let client = match &self.tls {
            None if by_engine => {
                return self.engine.serve_tcp(stream, peer).await;
            }
            None => {
                let Some(stream) = self.register(stream) else {
                    return;
                };
                let stream = Box::new(with_digest(stream, address));
                Client::new(stream, Arc::clone(&self.site))
            }
            Some(acceptor) => {
                let Some(stream) = self.register(stream) else {
                    return;
                };
                let stream = with_digest(stream, address);
                let shaking = self.shake_hands(acceptor, stream, address);
                let Some(stream) = Box::pin(shaking).await else {
                    return;
                };
                let is_http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
                if by_engine && !is_http2 {
                    return self.engine.serve_tls(stream, peer).await;
                }
                Client::new(stream, Arc::clone(&self.site))
            }
        };
        // The engine's connections need not have room for Pingora's.
        Box::pin(self.app.serve(client, &shutdown)).await;
    }

    /// A socket with its events.
    fn register(&self, socket: Tcp) -> Option<tokio::net::TcpStream> {
        let registered = socket.into_registered();
        registered
            .map_err(|error| debug!("{}: {error}", self.address))
            .ok()
    }

    /// The TLS handshake; `None` if it comes to nothing.
    async fn shake_hands(
        &self,
        acceptor: &Acceptor,
        stream: L4Stream,
        peer: SocketAddr,
    ) -> Option<Stream> {
        let limit = self.site.load().timeouts.client_head;
        let mut stream = ReadAhead::new(stream);
        let handshake = async {
            match stream.is_plain_http().await {
                Ok(true) => Ok(Err(stream)),
                // What an error of reading means is for the handshake to say.
                _ => acceptor.tls_handshake(stream).await.map(Ok),
            }
        };
        match timeout(limit, handshake).await {
            Ok(Ok(Err(plain))) => {
                self.counts.shake_hands(Handshake::Failed);
                debug!("{}: {peer}: HTTP without TLS", self.address);
                self.app.refuse_plain(plain, peer.ip()).await;
                None
            }
            Ok(Ok(Ok(stream))) => {
                let digest = stream.get_ssl_digest();
                let version = digest.as_ref().map_or("", |digest| &digest.version);
                self.counts.shake_hands(Handshake::Done(version));
                Some(Box::new(stream))
            }
            Ok(Err(error)) => {
                self.counts.shake_hands(Handshake::Failed);
                debug!("{}: {peer}: {error}", self.address);
                None
            }
            Err(_) => {
                self.counts.shake_hands(Handshake::Late);
                debug!("{}: {peer}: no handshake in time", self.address);
                None
            }
        }
    }
}

/// A socket as Pingora's streams have it, connected to `peer`.
fn with_digest(stream: tokio::net::TcpStream, peer: SocketAddr) -> L4Stream {
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // It is new, so there is nothing in it yet.
    let _ = digest.peer_addr.set(Some(peer.into()));
    let mut stream = L4Stream::from(stream);
    stream.set_socket_digest(digest);
    stream
}

/// Whether nothing can be accepted until something else ends.
fn is_exhaustion(error: &io::Error) -> bool {
    let error = error.raw_os_error().map(Errno::from_raw);
    matches!(
        error,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}
