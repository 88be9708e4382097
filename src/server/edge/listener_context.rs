//! What an accepted connection goes through on a listener, up to the driver that serves it.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use log::debug;
use pingora::listeners::ALPN;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{GetSocketDigest, SocketDigest, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use prometheus::IntCounter;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use crate::client_certificate::ClientVerification;
use crate::config::{Http1, ListenerAddress};
use crate::engine::{self, Engine, LazyTcp, Transport, UnservedConnection};
use crate::metrics::MetricsCounters;
use crate::pingora_driver::{ClientStream, PanicGuard};
use crate::proxy::{ActiveConfig, Proxy};
use crate::server::tls::TlsState;

use super::connections::{ConnectionGuard, Connections};
use super::proxy_protocol::ClientAddresses;
use super::replay_stream::ReplayStream;
use super::workers::{WorkerGuard, Workers};

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

impl ListenerContext {
    /// Serves an admitted connection to its end.
    pub(super) async fn serve(
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
    pub(super) fn register(&self, socket: LazyTcp) -> Option<tokio::net::TcpStream> {
        let registered = socket.into_registered();
        registered
            .map_err(|error| debug!("{}: {error}", self.address))
            .ok()
    }
}
