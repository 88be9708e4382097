//! Ports that no other process takes.
//!
//! The kernel gives ephemeral ports to outgoing connections, so a port that was free a moment ago may now be the local
//! end of a connection. The ports here lie below that range.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;

/// A loopback address without a listener; calls of this process do not repeat an address soon.
pub(crate) fn free() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Parallel test processes start far apart.
    let start = std::process::id().wrapping_mul(977);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Takes `address` without listening on it: connections are refused, and no other process can take it.
pub(crate) fn hold(address: SocketAddr) -> Socket {
    // A listener that was closed a moment ago may still be shutting down.
    for _ in 0..500 {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)
            .expect("a socket can be made");
        socket
            .set_reuse_address(true)
            .expect("a fresh socket takes options");
        if socket.bind(&address.into()).is_ok() {
            return socket;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("{address} does not become free");
}

/// A host that refuses every connection while it exists.
#[derive(Debug)]
pub(crate) struct DeadHost {
    address: SocketAddr,
    _held: Socket,
}

impl DeadHost {
    pub(crate) fn new() -> Self {
        let address = free();
        DeadHost {
            address,
            _held: hold(address),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A host whose accept queue is full: connections to it neither succeed nor fail.
#[derive(Debug)]
pub(crate) struct FullHost {
    address: SocketAddr,
    listener: Socket,
    waiting: Vec<Socket>,
}

impl FullHost {
    pub(crate) fn new() -> Self {
        let address = free();
        let listener = hold(address);
        listener.listen(0).expect("a bound socket can listen");
        let waiting = (0..8)
            .map(|_| {
                let socket =
                    Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be made");
                let _ = socket.connect_timeout(&address.into(), Duration::from_millis(50));
                socket
            })
            .collect();
        FullHost {
            address,
            listener,
            waiting,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the connections that fill the queue: a client that still tries gets through with its next attempt.
    pub(crate) fn open_up(self) -> TcpListener {
        drop(self.waiting);
        self.listener.into()
    }
}
