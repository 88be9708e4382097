//! Connections to hosts: made, kept while they are idle by the thread that used them, and used again by any.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pingora::connectors::TransportConnector;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::socket::Socket;

/// A connection to a host.
pub(super) struct Host {
    pub(super) socket: Socket,
    /// What tells it from connections to others.
    key: u64,
}

/// How many connections are idle, in all threads.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// An idle connection.
struct Idle {
    host: Host,
    /// Until when it may be used again.
    until: Instant,
    _counted: Counted,
}

/// One of [`COUNT`]. Dropping it ends the count.
struct Counted;

impl Counted {
    /// One more, if there may be so many.
    fn within(capacity: usize) -> Option<Self> {
        let count = |count| (count < capacity).then_some(count + 1);
        let counted = COUNT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        counted.ok().map(|_| Counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Idle connections, by what tells connections apart: address, TLS and its options.
#[derive(Default)]
struct Store(HashMap<u64, Vec<Idle>>);

/// A thread's store. Others look into it before they make a connection of their own.
type Shared = Arc<Mutex<Store>>;

/// The stores of all threads.
static STORES: Mutex<Vec<Shared>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: Shared = {
        let own = Shared::default();
        lock(&STORES).push(Arc::clone(&own));
        own
    };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A connection is put in and taken out as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Idle {
    fn may_be_used(&mut self, now: Instant) -> bool {
        self.until > now && self.host.is_quiet()
    }
}

impl Store {
    /// The connection that was used last, if one can be used again.
    fn take(&mut self, key: u64, now: Instant) -> Option<Host> {
        let kept = self.0.get_mut(&key)?;
        while let Some(mut idle) = kept.pop() {
            if idle.may_be_used(now) {
                return Some(idle.host);
            }
        }
        None
    }

    /// Closes one of them. `false`: there is none.
    fn evict(&mut self) -> bool {
        let mut kept = self.0.values_mut();
        match kept.find(|kept| !kept.is_empty()) {
            Some(kept) => {
                // The one that has been idle for the longest time.
                kept.remove(0);
                true
            }
            None => false,
        }
    }
}

/// An idle connection to `peer`: one of this thread, else one of another. A host that takes few connections is not asked for
/// more of them than there are requests.
pub(super) fn take(peer: &HttpPeer, now: Instant) -> Option<Host> {
    let key = peer.reuse_hash();
    OWN.with(|own| {
        if let Some(host) = lock(own).take(key, now) {
            return Some(host);
        }
        let stores = lock(&STORES);
        let others = stores.iter().filter(|other| !Arc::ptr_eq(own, other));
        let mut others = others.filter_map(|other| lock(other).take(key, now));
        others.find_map(Host::on_this_thread)
    })
}

/// Keeps a connection to `peer` for later requests; `capacity` may be idle in all threads.
pub(super) fn keep(peer: &HttpPeer, host: Host, capacity: usize) {
    let Some(time) = peer.idle_timeout() else {
        return;
    };
    if time.is_zero() {
        return;
    }
    let until = Instant::now() + time;
    OWN.with(|own| {
        let mut own = lock(own);
        let mut counted = Counted::within(capacity);
        if counted.is_none() && own.evict() {
            counted = Counted::within(capacity);
        }
        let Some(_counted) = counted else {
            return;
        };
        let idle = Idle {
            host,
            until,
            _counted,
        };
        own.0.entry(idle.host.key).or_default().push(idle);
    });
}

/// Closes the thread's idle connections whose time is over, or that their hosts have closed.
pub(super) fn sweep() {
    let now = Instant::now();
    OWN.with(|own| {
        lock(own).0.retain(|_, kept| {
            kept.retain_mut(|idle| idle.may_be_used(now));
            !kept.is_empty()
        });
    });
}

/// Makes a connection to `peer`.
///
/// # Errors
/// As Pingora tells them.
pub(super) async fn connect(connector: &TransportConnector, peer: &HttpPeer) -> Result<Host> {
    let socket = match (peer.is_tls(), &peer._address) {
        (false, SocketAddr::Inet(address)) => {
            let connecting = TcpStream::connect(address);
            let connected = match peer.options.connection_timeout {
                Some(limit) => match timeout(limit, connecting).await {
                    Ok(connected) => connected,
                    Err(_) => {
                        let late = format!("no connection to {address} in time");
                        return Err(Error::explain(ErrorType::ConnectTimedout, late).into_up());
                    }
                },
                None => connecting.await,
            };
            let socket = connected.map_err(|error| unconnected(error, address))?;
            // Heads are written in one piece, and nothing is gained by waiting for more.
            let _ = socket.set_nodelay(true);
            Socket::Tcp(socket.into())
        }
        _ => Socket::Tls(
            connector
                .new_stream(peer)
                .await
                .map_err(|error| error.into_up())?,
        ),
    };
    Ok(Host {
        socket,
        key: peer.reuse_hash(),
    })
}

fn unconnected(error: io::Error, address: &std::net::SocketAddr) -> Box<Error> {
    let what = match error.kind() {
        ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        _ => ErrorType::ConnectError,
    };
    Error::because(what, format!("cannot connect to {address}"), error).into_up()
}

impl Host {
    /// A connection of another thread as one of this.
    fn on_this_thread(self) -> Option<Self> {
        let socket = match self.socket {
            Socket::Tcp(socket) => {
                let socket = socket.into_registered().ok()?.into_std();
                Socket::Tcp(socket.and_then(TcpStream::from_std).ok()?.into())
            }
            // Its events come by way of the other thread.
            tls @ Socket::Tls(_) => tls,
        };
        Some(Host { socket, ..self })
    }

    /// Whether nothing has come on an idle connection, neither bytes nor its end.
    fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        match &mut self.socket {
            Socket::Tcp(socket) => {
                matches!(socket.try_read(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock)
            }
            Socket::Tls(socket) => {
                let mut context = Context::from_waker(Waker::noop());
                let mut room = ReadBuf::new(&mut byte);
                let read = Pin::new(socket).poll_read(&mut context, &mut room);
                matches!(read, Poll::Pending)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn so_many_connections_stay_idle_and_the_last_ones_do() {
        let connector = TransportConnector::new(None);
        let mut hosts = Vec::new();
        for _ in 0..3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let address = listener.local_addr().expect("it is bound");
            let mut peer = HttpPeer::new(address, false, String::new());
            peer.options.idle_timeout = Some(std::time::Duration::from_secs(60));
            let host = connect(&connector, &peer).await.expect("connected");
            let (accepted, _) = listener.accept().await.expect("accepted");
            keep(&peer, host, 2);
            hosts.push((peer, accepted));
        }
        assert_eq!(COUNT.load(Ordering::Relaxed), 2);
        // Another thread finds them as well, and a host that has closed is not among them.
        let last = hosts.remove(2);
        let found = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            let _context = runtime.enter();
            take(&last.0, Instant::now()).is_some()
        });
        assert!(found.join().expect("no panic"));
        let left = Vec::from_iter(
            hosts
                .iter()
                .map(|(peer, _)| take(peer, Instant::now()).is_some()),
        );
        assert_eq!(left.iter().filter(|found| **found).count(), 1, "{left:?}");
        assert_eq!(COUNT.load(Ordering::Relaxed), 0);
    }
}
