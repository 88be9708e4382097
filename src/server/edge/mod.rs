//! The edge: accepts clients' connections, applies limits and access lists, and hands connections to the proxy.
//!
//! Pingora's own accept loop has no limit of connections, gives a TLS handshake a minute, and logs a line for each one
//! that fails. Pingora's protocols and its proxy are used unchanged; only accepting is replaced.

mod accept;
mod admission;
mod connections;
#[cfg(test)]
mod fuzz;
mod handshake_turn;
pub(super) mod inherited_listeners;
mod listener_context;
mod proxy_protocol;
mod read_ahead;
mod replay_stream;
mod tls_handshake;
mod workers;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{error, info};
use nix::unistd::close;
use pingora::apps::HttpServerApp;
use pingora::proxy::HttpProxy;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

use crate::config::ListenerAddress;
use crate::engine::Engine;
use crate::metrics::MetricsCounters;
use crate::pingora_driver::PanicGuard;
use crate::proxy::{ActiveConfig, Proxy, TrafficState};
use crate::server::handover::ExpectedProbes;
use crate::server::lifecycle::Lifecycle;
use crate::server::tls::TlsState;
use crate::supervisor::{Supervisor, Task};

use accept::AcceptLoop;
use listener_context::ListenerContext;
use workers::Workers;

pub(super) use connections::{Connections, connection_capacity, raise_descriptors};

/// How long idle connections stay open after the last connection was accepted. A request in transit, or one of a client
/// that has just connected, arrives within a round trip, or two with TLS; a busy client sends its next request within
/// this time and receives `Connection: close`.
pub(super) const LAME_DUCK: Duration = Duration::from_secs(2);

/// The listeners and their proxy. Idle connections outlive the listeners by [`LAME_DUCK`]. Pingora would close them at
/// once, and with a TCP reset where a request has arrived meanwhile.
pub(super) struct Edge {
    engine: Arc<Engine>,
    app: Arc<PanicGuard<HttpProxy<Proxy>>>,
    active: Arc<ArcSwap<ActiveConfig>>,
    connections: Arc<Connections>,
    counts: Arc<MetricsCounters>,
    lifecycle: Arc<Lifecycle>,
    probes: Arc<ExpectedProbes>,
    listeners: Vec<(ListenerAddress, Option<Arc<TlsState>>)>,
}

/// The handlers of connections: the engine, and Pingora's proxy for those that the engine does not serve.
pub(super) struct ConnectionHandlers {
    pub(super) engine: Engine,
    pub(super) pingora: HttpProxy<Proxy>,
}

impl Edge {
    pub(super) fn new(
        handlers: ConnectionHandlers,
        active: Arc<ArcSwap<ActiveConfig>>,
        traffic: Arc<TrafficState>,
        counts: Arc<MetricsCounters>,
        connections: Connections,
        lifecycle: Arc<Lifecycle>,
        probes: Arc<ExpectedProbes>,
    ) -> Self {
        let ConnectionHandlers { engine, pingora } = handlers;
        Edge {
            engine: Arc::new(engine),
            app: Arc::new(PanicGuard::new(pingora, Arc::clone(&active), traffic)),
            active,
            connections: Arc::new(connections),
            counts,
            lifecycle,
            probes,
            listeners: Vec::new(),
        }
    }

    /// The accepted connections.
    pub(super) fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }

    /// Adds a listener on `address`, whose socket will be in the table of sockets.
    pub(super) fn listen(&mut self, address: ListenerAddress, tls: Option<Arc<TlsState>>) {
        self.listeners.push((address, tls));
    }

    fn accept_loops(
        &mut self,
        table: &ListenFds,
        workers: &Workers,
    ) -> io::Result<Vec<AcceptLoop>> {
        // The sockets are registered with the runtime of the accepting worker.
        let _context = workers.first().enter();
        let table = table.lock();
        let listeners = self.listeners.drain(..);
        listeners
            .map(|(address, tls)| {
                let socket = table.get(&address.to_string()).copied();
                let socket = socket.ok_or(io::ErrorKind::NotFound)?;
                let listener = inherited_listeners::duplicate_listener(socket)?;
                // Accepted connections inherit the option. Each head is written in one piece, so a delay saves no
                // packets.
                if address.as_inet().is_some() {
                    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
                }
                #[expect(
                    deprecated,
                    reason = "what takes its place is unsafe, for the sake of types that change their descriptor"
                )]
                let listener = AsyncFd::with_interest(listener, Interest::READABLE)?;
                Ok(AcceptLoop {
                    listener,
                    inherited_fd: socket,
                    closing: self.lifecycle.watch_closing(),
                    probes: Arc::clone(&self.probes),
                    context: Arc::new(ListenerContext {
                        accepted: self.counts.listener(&address),
                        open: self.connections.listener(&address),
                        address,
                        tls,
                        workers: workers.clone(),
                        engine: Arc::clone(&self.engine),
                        app: Arc::clone(&self.app),
                        active: Arc::clone(&self.active),
                        connections: Arc::clone(&self.connections),
                        counts: Arc::clone(&self.counts),
                    }),
                })
            })
            .collect()
    }
}

#[async_trait]
impl Service for Edge {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
    ) {
        let Some(table) = fds else { return };
        let workers = match Workers::start(self.connections.by_worker()) {
            Ok(workers) => workers,
            Err(error) => return error!("no threads to serve connections with: {error}"),
        };
        let accept_loops = match self.accept_loops(&table, &workers) {
            Ok(accept_loops) => accept_loops,
            Err(error) => return error!("cannot accept connections: {error}"),
        };
        let mut accepting = JoinSet::new();
        for accept_loop in accept_loops {
            let shutdown = shutdown.clone();
            let accept = async move {
                let mut supervisor =
                    Supervisor::new(Task::Accept, accept_loop.context.address.to_string());
                while supervisor
                    .run(accept_loop.accept(shutdown.clone()))
                    .await
                    .is_none()
                {}
                // Closes the descriptor in the table of sockets; it is kept open until here for a successor.
                if let Err(error) = close(accept_loop.inherited_fd) {
                    info!("the socket of {}: {error}", accept_loop.context.address);
                }
            };
            accepting.spawn_on(accept, workers.first());
        }
        accepting.join_all().await;
        tokio::time::sleep_until(self.lifecycle.since() + LAME_DUCK).await;
        self.engine.close_idle();
        self.app.http_cleanup().await;
    }

    fn name(&self) -> &str {
        "proxy"
    }
}
