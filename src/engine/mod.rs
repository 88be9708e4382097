//! The engine: HTTP/1.1 to hosts, for clients of HTTP/1.1 and of HTTP/2, with plain buffers and one task per client
//! connection or stream.
//!
//! The engine moves bytes; `proxy` makes every decision about a request. Pingora serves requests whose hosts speak HTTP/2,
//! with the same decisions.

mod admission;
mod buffer;
mod client_connection;
mod client_peer;
mod client_transport;
mod coarse_timer;
mod connection_task;
mod exchange;
mod free_list;
mod header_edits;
mod host_connection;
mod http2_stream;
mod idle_closer;
mod idle_connections;
mod lazy_tcp;
mod relay;
mod request_head;
mod request_sender;
mod response_head;
mod retry_loop;
mod send_buffer;
mod transport;
mod tunnel;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use pingora::upstreams::peer::HttpPeer;
use tokio::time::sleep;

use crate::client_certificate::ClientVerification;
use crate::config::ListenerAddress;
use crate::http2_request::Http2Request;
use crate::proxy::{ActiveConfig, Proxy, TrafficState};
use crate::proxy_protocol::ProxiedConnection;
use client_peer::ClientPeer;
use client_transport::ClientTransport;
use connection_task::ConnectionTask;
use http2_stream::Http2Stream;
use idle_closer::IdleCloser;

pub use lazy_tcp::LazyTcp;
pub use transport::Transport;

/// A connection that Pingora is to serve from here on: its client speaks HTTP/2, or the hosts of a request may.
#[derive(Debug)]
pub struct UnservedConnection {
    /// The client's socket.
    pub socket: Transport,
    /// What has been read from it, from the first request on that the engine has not served.
    pub received: Vec<u8>,
    /// Whether the client speaks HTTP/2.
    pub is_http2: bool,
}

/// How a request on a stream of HTTP/2 ended.
#[derive(Debug)]
pub enum StreamOutcome {
    /// It is over.
    Served {
        /// Whether the client was sent a response, or a part of one.
        has_responded: bool,
    },
    /// Pingora is to serve it: the hosts may speak HTTP/2.
    Unserved(Box<Http2Request>),
}

/// How often each thread frees idle resources: expired connections to hosts, and unused buffers.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// Serves requests to hosts of HTTP/1.1.
pub struct Engine {
    proxy: Proxy,
    active: Arc<ArcSwap<ActiveConfig>>,
    traffic: Arc<TrafficState>,
    connector: TransportConnector,
    idle_closer: IdleCloser,
    /// The maximum number of idle connections to hosts, over all threads.
    max_idle: usize,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// What the listener knows about a client's connection.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// The client's address; `None`: it has connected to a Unix socket.
    pub address: Option<SocketAddr>,
    /// The address that the client has connected to, as a load balancer in front names it. `None`: it is that of the
    /// connection.
    pub destination: Option<SocketAddr>,
    /// Whether the connection uses TLS.
    pub tls: bool,
    /// The address of the listener that the client connected to.
    pub listener: Option<ListenerAddress>,
    /// What the listener knows of the client's certificate. `None`: it asks for none.
    pub verification: Option<Arc<ClientVerification>>,
}

impl Engine {
    /// Creates an engine. Each request uses the configuration that `active` holds when it begins; at most `max_idle`
    /// connections to hosts are idle.
    pub fn new(
        proxy: Proxy,
        active: Arc<ArcSwap<ActiveConfig>>,
        traffic: Arc<TrafficState>,
        max_idle: usize,
    ) -> Self {
        Engine {
            proxy,
            active,
            traffic,
            connector: TransportConnector::new(None),
            idle_closer: IdleCloser::default(),
            max_idle,
        }
    }

    /// Serves a plain connection, of TCP or a Unix socket, until it closes, or returns it once Pingora is to serve it.
    pub async fn serve_tcp(&self, socket: LazyTcp, peer: ClientInfo) -> Option<UnservedConnection> {
        let transport = ClientTransport::Socket(Transport::Tcp(socket));
        let connection = ConnectionTask::new(self, transport, ClientPeer::new(peer));
        connection.serve().await
    }

    /// Serves a TLS connection until it closes, or returns it once Pingora is to serve it.
    pub async fn serve_tls(&self, socket: Stream, peer: ClientInfo) -> Option<UnservedConnection> {
        let transport = ClientTransport::Socket(Transport::Tls(socket));
        let connection = ConnectionTask::new(self, transport, ClientPeer::new(peer));
        connection.serve().await
    }

    /// Serves a request on a stream of an HTTP/2 connection, or returns it if Pingora is to serve it.
    pub async fn serve_stream(
        &self,
        request: Http2Request,
        peer: ClientInfo,
        connection: Arc<ProxiedConnection>,
    ) -> StreamOutcome {
        let (stream, head) = Http2Stream::of(request);
        let transport = ClientTransport::Http2(Box::new(stream));
        ConnectionTask::new(self, transport, ClientPeer::of_stream(peer, connection))
            .serve_stream(head)
            .await
    }

    /// Closes the idle connections to hosts that only the streams of `connection` could use. To be called by the thread that
    /// served them.
    pub fn close_connections_of(connection: &ProxiedConnection) {
        idle_connections::close_owned(connection.id());
    }

    /// The number of idle connections to `peer`, without those that belong to one client each.
    pub fn idle_connections_to(peer: &HttpPeer) -> usize {
        idle_connections::count(peer)
    }

    fn takes_cleartext_http2(&self, peer: &ClientInfo) -> bool {
        let active = self.active.load();
        let listener = peer.listener.as_ref().filter(|_| !peer.tls);
        listener.is_some_and(|listener| active.takes_cleartext_http2(listener))
    }

    /// Closes idle client connections, now and whenever one becomes idle later.
    pub fn close_idle(&self) {
        self.idle_closer.close_all();
    }
}

/// Runs the engine's periodic work. Each thread that serves connections runs it once, for as long as the thread lives.
pub async fn run_housekeeping() {
    let sweep = async {
        loop {
            sleep(HOUSEKEEPING_INTERVAL).await;
            idle_connections::close_expired();
            buffer::trim();
            connection_task::trim();
        }
    };
    tokio::join!(sweep, coarse_timer::run());
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config::Config;
    use crate::pool::HostRegistry;

    #[tokio::test]
    async fn an_idle_connection_reserves_no_memory_for_a_request() {
        let file = "listeners: [\"127.0.0.1:8080\"]\npools: { web: { hosts: [\"127.0.0.1:80\"] } }";
        let config = Config::parse(file, Path::new("ballast.yaml")).expect("a configuration");
        let active = ActiveConfig::new(&config, &mut HostRegistry::new()).expect("a configuration");
        let (active, traffic) = (Arc::new(ArcSwap::from_pointee(active)), Arc::default());
        let proxy = Proxy::new(Arc::clone(&active), Arc::clone(&traffic));
        let engine = Engine::new(proxy, active, traffic, 1);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("it is bound");
        let socket = TcpStream::connect(address).await.expect("connected");
        let peer = ClientInfo {
            address: None,
            destination: None,
            tls: false,
            listener: None,
            verification: None,
        };
        let size = size_of_val(&engine.serve_tcp(socket.into(), peer));
        assert!(size <= 2_048, "{size} bytes");
    }
}
