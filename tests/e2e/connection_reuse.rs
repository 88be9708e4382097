//! Connections to hosts are reused, for any number of hosts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::support::{Client, Setup, free};

/// More than the 1,024 connections that fit into Pingora's store.
const HOSTS: usize = 1_300;

/// One server that acts as every host in 127.1.0.0/16.
struct Hosts {
    port: u16,
    accepted: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Hosts {
    fn start() -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let port = free().port();
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let listener = runtime
            .block_on(TcpListener::bind(address))
            .expect("the port is free");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(socket));
            }
        });
        Hosts {
            port,
            accepted,
            _runtime: runtime,
        }
    }

    fn address(&self, number: usize) -> SocketAddr {
        let [.., high, low] = number.to_be_bytes();
        SocketAddr::from((Ipv4Addr::new(127, 1, high, low), self.port))
    }
}

/// Sends a response to each head. The requests of this test have no bodies.
async fn serve(mut socket: TcpStream) {
    let (mut received, mut piece) = (Vec::new(), [0; 4_096]);
    while let Ok(count @ 1..) = socket.read(&mut piece).await {
        received.extend_from_slice(&piece[..count]);
        if received.ends_with(b"\r\n\r\n") {
            received.clear();
            let response = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            if socket.write_all(response).await.is_err() {
                return;
            }
        }
    }
}

#[test]
fn more_than_a_thousand_hosts_keep_their_connections() {
    let hosts = Hosts::start();
    let setup = (1..=HOSTS).fold(Setup::of(&[]), |setup, number| {
        setup.host(hosts.address(number))
    });
    let ballast = setup.top("server: { threads: 1 }").start();
    let mut client = Client::connect(ballast.address());
    for round in 1..=3 {
        for _ in 0..HOSTS {
            assert_eq!(client.get("/").status, 200);
        }
        assert_eq!(
            hosts.accepted.load(Ordering::SeqCst),
            HOSTS,
            "round {round}"
        );
    }
}
