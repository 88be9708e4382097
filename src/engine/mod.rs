//! The engine: HTTP/1.1 on both sides, one task per client connection over plain buffers.
//!
//! It moves bytes; what is decided about them, `proxy` decides. HTTP/2 is Pingora's, with the same decisions.

mod answering;
mod attempts;
mod buffer;
mod client;
mod closing;
mod connection;
mod exchange;
mod hosts;
mod outgoing;
mod relay;
mod socket;
mod spare;
mod tcp;
mod tunnel;
mod upload;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use tokio::time::sleep;

use crate::proxy::{Proxy, Site, Traffic};
use closing::Closing;
use connection::Connection;
use socket::Socket;

pub use tcp::Tcp;

/// How often a thread gives back what it has not needed lately: connections to hosts, and memory.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(1);

/// What drives requests of HTTP/1.1.
pub struct Engine {
    proxy: Proxy,
    site: Arc<ArcSwap<Site>>,
    traffic: Arc<Traffic>,
    connector: TransportConnector,
    closing: Closing,
    /// Connections to hosts that may be idle.
    idle: usize,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// How a client is connected.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its address; `None` if that is none of IP.
    pub address: Option<IpAddr>,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The port that it is connected to.
    pub port: Option<u16>,
}

impl Engine {
    /// An engine for whatever `site` holds when a request begins, with so many `idle` connections to hosts at most.
    pub fn new(proxy: Proxy, site: Arc<ArcSwap<Site>>, traffic: Arc<Traffic>, idle: usize) -> Self {
        Engine {
            proxy,
            site,
            traffic,
            connector: TransportConnector::new(None),
            closing: Closing::default(),
            idle,
        }
    }

    /// Serves a connection in clear until its end.
    pub async fn serve_tcp(&self, socket: Tcp, peer: Peer) {
        let connection = Connection::new(self, Socket::Tcp(socket), peer);
        connection.serve().await;
    }

    /// The same with an encrypted connection.
    pub async fn serve_tls(&self, socket: Stream, peer: Peer) {
        Connection::new(self, Socket::Tls(socket), peer)
            .serve()
            .await;
    }

    /// Closes connections at rest, now and from now on.
    pub fn close_resting(&self) {
        self.closing.close();
    }
}

/// What a thread has to do on which the engine runs, besides the connections.
pub async fn tend() {
    let sweep = async {
        loop {
            sleep(BETWEEN_SWEEPS).await;
            hosts::sweep();
            buffer::trim();
            connection::trim();
        }
    };
    tokio::join!(sweep, watch::rounds());
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config::Config;
    use crate::pool::HostBook;

    #[tokio::test]
    async fn a_connection_at_rest_has_no_room_for_a_request() {
        let file = "listeners: [\"127.0.0.1:8080\"]\npools: { web: { hosts: [\"127.0.0.1:80\"] } }";
        let config = Config::parse(file, Path::new("ballast.yaml")).expect("a configuration");
        let site = Site::new(&config, &mut HostBook::new()).expect("a site");
        let (site, traffic) = (Arc::new(ArcSwap::from_pointee(site)), Arc::default());
        let proxy = Proxy::new(Arc::clone(&site), Arc::clone(&traffic));
        let engine = Engine::new(proxy, site, traffic, 1);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("it is bound");
        let socket = TcpStream::connect(address).await.expect("connected");
        let peer = Peer {
            address: None,
            tls: false,
            port: None,
        };
        let size = size_of_val(&engine.serve_tcp(socket.into(), peer));
        assert!(size <= 2_048, "{size} bytes");
    }
}
