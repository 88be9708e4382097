//! One listener: accepts connections while there is capacity, and serves those that are admitted.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

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
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use crate::client_certificate::ClientVerification;
use crate::config::{Http1, ListenerAddress};
use crate::engine::{self, Engine, LazyTcp, Transport, UnservedConnection};
use crate::metrics::{HandshakeOutcome, MetricsCounters, RejectReason};
use crate::pingora_driver::{ClientStream, PanicGuard};
use crate::proxy::{ActiveConfig, Proxy};
use crate::server::handover::ExpectedProbes;
use crate::server::tls::TlsState;

use super::connections::{ConnectionGuard, Connections};
use super::handshake_turn::in_turn;
use super::proxy_protocol::{self, ClientAddresses, ProxyHeaderError};
use super::read_ahead::ReadAhead;
use super::replay_stream::ReplayStream;
use super::workers::{WorkerGuard, Workers};

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

/// The parts of the process that serve the connections of a listener.
pub(super) struct ListenerContext {
    pub(super) address: ListenerAddress,
    pub(super) tls: Option<Arc<TlsState>>,
    pub(super) workers: Workers,
    pub(super) engine: Arc<Engine>,
    pub(super) app: Arc<PanicGuard<HttpProxy<Proxy>>>,
    pub(super) active: Arc<ArcSwap<ActiveConfig>>,
    pub(super) connections: Arc<Connections>,
    /// Open connections of this listener.
    pub(super) open: Arc<AtomicU64>,
    /// Counts the connections accepted by this listener.
    pub(super) accepted: IntCounter,
    pub(super) counts: Arc<MetricsCounters>,
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
/// its first request may never need that. A connection to a Unix socket becomes a `TcpStream` as well, see [`LazyTcp`].
fn accept(listener: &TcpListener) -> io::Result<(TcpStream, Option<SocketAddrAny>)> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok((socket.into(), peer))
}

impl ListenerContext {
    /// Spawns an admitted connection on the worker with the fewest connections.
    fn dispatch(
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

    async fn serve(
        self: Arc<Self>,
        stream: LazyTcp,
        addresses: ClientAddresses,
        _guards: (ConnectionGuard, WorkerGuard),
        shutdown: ShutdownWatch,
    ) {
        let address = addresses.client;
        let mut peer = engine::ClientInfo {
            address,
            destination: addresses.destination,
            tls: self.tls.is_some(),
            listener: Some(self.address.clone()),
            verification: None,
        };
        let uses_engine = self.active.load().http1 == Http1::Engine;
        let began = Instant::now();
        let client = match &self.tls {
            None if uses_engine => {
                let Some(unserved) = self.engine.serve_tcp(stream, peer.clone()).await else {
                    return;
                };
                self.take_over(unserved, address)
            }
            None => {
                let Some(stream) = self.register(stream) else {
                    return;
                };
                let Some(stream) = self.with_digest(stream, address) else {
                    return;
                };
                let stream = Box::new(stream);
                // Boxed: the futures of the engine's connections stay small.
                Box::pin(self.detect_http2(stream)).await
            }
            Some(tls) => {
                let Some(stream) = self.register(stream) else {
                    return;
                };
                let Some(stream) = self.with_digest(stream, address) else {
                    return;
                };
                let handshake = self.tls_handshake(tls.acceptor(), stream, address);
                let Some(stream) = Box::pin(handshake).await else {
                    return;
                };
                let protocol = stream.selected_alpn_proto();
                if matches!(protocol, Some(ALPN::Custom(_))) {
                    // An authority has its answer, see `tls-alpn-01`.
                    return;
                }
                let is_http2 = matches!(protocol, Some(ALPN::H2));
                let digest = stream.get_ssl_digest();
                let verification = digest.as_deref().and_then(ClientVerification::of);
                peer.verification = verification.cloned();
                if uses_engine && !is_http2 {
                    let Some(unserved) = self.engine.serve_tls(stream, peer.clone()).await else {
                        return;
                    };
                    self.take_over(unserved, address)
                } else {
                    Some(stream)
                }
            }
        };
        let Some(stream) = client else {
            return;
        };
        let active = Arc::clone(&self.active);
        let mut client = ClientStream::new(stream, active, addresses.destination);
        if !uses_engine && self.tls.is_none() {
            client.await_head_since(began);
        }
        // Boxed for the same reason.
        let engine = uses_engine.then(|| (Arc::clone(&self.engine), peer));
        Box::pin(self.app.serve(client, engine, &shutdown)).await;
    }

    /// A connection that the engine leaves to Pingora.
    fn take_over(&self, unserved: UnservedConnection, peer: Option<SocketAddr>) -> Option<Stream> {
        let stream: Stream = match unserved.socket {
            Transport::Tcp(socket) => Box::new(self.with_digest(self.register(socket)?, peer)?),
            Transport::Tls(stream) => stream,
        };
        let (received, is_http2) = (unserved.received, unserved.is_http2);
        Some(Box::new(ReplayStream::new(received, stream, is_http2)))
    }

    /// Finds out whether the client of a plain connection speaks HTTP/2, if the listener takes it. `None`: it has not said
    /// enough in time, or has left.
    async fn detect_http2(&self, stream: Stream) -> Option<Stream> {
        let limit = {
            let active = self.active.load();
            if !active.takes_cleartext_http2(&self.address) {
                return Some(stream);
            }
            active.timeouts.client_head
        };
        match timeout(limit, ReplayStream::detect_http2(stream)).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    /// Wraps a socket connected to `peer` as Pingora's stream type; `None` if the runtime refuses it.
    fn with_digest(
        &self,
        stream: tokio::net::TcpStream,
        peer: Option<SocketAddr>,
    ) -> Option<L4Stream> {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // A new digest is empty, so this cannot fail.
        let _ = digest.peer_addr.set(peer.map(SocketAddr::into));
        let mut stream = match self.address.as_unix() {
            // Pingora asks a TCP stream for options that a Unix socket does not have.
            Some(_) => {
                let socket = stream.into_std().map(OwnedFd::from);
                let socket = socket.and_then(|socket| UnixStream::from_std(socket.into()));
                let failed = |error| debug!("{}: {error}", self.address);
                L4Stream::from(socket.map_err(failed).ok()?)
            }
            None => L4Stream::from(stream),
        };
        stream.set_socket_digest(digest);
        Some(stream)
    }

    /// Registers the socket with the worker's runtime.
    fn register(&self, socket: LazyTcp) -> Option<tokio::net::TcpStream> {
        let registered = socket.into_registered();
        registered
            .map_err(|error| debug!("{}: {error}", self.address))
            .ok()
    }

    /// The TLS handshake; `None` if it fails.
    async fn tls_handshake(
        &self,
        acceptor: Arc<Acceptor>,
        stream: L4Stream,
        peer: Option<SocketAddr>,
    ) -> Option<Stream> {
        let limit = self.active.load().timeouts.client_head;
        let mut stream = ReadAhead::new(stream);
        let handshake = async {
            if let Ok(true) = stream.is_plain_http().await {
                return Ok(Begun::Plain(Box::new(stream)));
            }
            // A client that has sent nothing yet is a connection like others.
            let limit = self.active.load().limits.max_handshakes;
            let Some(_guard) = self.connections.begin_handshake(limit) else {
                return Ok(Begun::TooMany);
            };
            // The handshake reports a read error.
            in_turn(acceptor.tls_handshake(stream))
                .await
                .map(Begun::Done)
        };
        let (shown, outcome) = (PeerText(peer), timeout(limit, handshake).await);
        match outcome {
            Ok(Ok(Begun::Plain(plain))) => {
                self.counts.count_handshake(HandshakeOutcome::Failed);
                debug!("{}: {shown}: HTTP without TLS", self.address);
                self.app.refuse_plain(*plain, ip_of(peer)).await;
                None
            }
            Ok(Ok(Begun::TooMany)) => {
                self.counts.count_handshake(HandshakeOutcome::TooMany);
                let line = format!("{}: too many TLS handshakes at once", self.address);
                self.connections.warn_rate_limited(&line);
                None
            }
            Ok(Ok(Begun::Done(stream))) => {
                let digest = stream.get_ssl_digest();
                let version = digest.as_ref().map_or("", |digest| &digest.version);
                self.counts.count_handshake(HandshakeOutcome::Done(version));
                Some(Box::new(stream))
            }
            Ok(Err(error)) => {
                self.counts.count_handshake(HandshakeOutcome::Failed);
                debug!("{}: {shown}: {error}", self.address);
                None
            }
            Err(_) => {
                self.counts.count_handshake(HandshakeOutcome::TimedOut);
                debug!("{}: {shown}: no handshake in time", self.address);
                None
            }
        }
    }
}

/// What has become of the beginning of a TLS connection.
enum Begun<T> {
    /// The client speaks HTTP without TLS.
    Plain(Box<ReadAhead>),
    /// There are too many handshakes already.
    TooMany,
    /// The handshake is complete.
    Done(T),
}

fn ip_of(peer: Option<SocketAddr>) -> Option<IpAddr> {
    peer.map(|peer| peer.ip())
}

/// A peer in lines of the log.
struct PeerText(Option<SocketAddr>);

impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(peer) => peer.fmt(f),
            None => f.write_str("a peer"),
        }
    }
}

/// Whether accepting fails until descriptors or memory are released.
fn is_resource_exhaustion(error: &io::Error) -> bool {
    let error = error.raw_os_error().map(Errno::from_raw);
    matches!(
        error,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}
