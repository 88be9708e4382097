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

use super::transport::Transport;

/// A connection to a host.
pub(super) struct HostConnection {
    pub(super) socket: Transport,
    /// What tells it from connections to others.
    key: u64,
}

/// How many connections are idle, in all threads.
static IDLE_COUNT: AtomicUsize = AtomicUsize::new(0);

/// An idle connection.
struct IdleConnection {
    host: HostConnection,
    /// Until when it may be used again.
    expires: Instant,
    _permit: IdlePermit,
}

/// One of [`IDLE_COUNT`]. Dropping it ends the count.
struct IdlePermit;

impl IdlePermit {
    /// One more, if there may be so many.
    fn acquire(capacity: usize) -> Option<Self> {
        let count = |count| (count < capacity).then_some(count + 1);
        let permit = IDLE_COUNT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        permit.ok().map(|_| IdlePermit)
    }
}

impl Drop for IdlePermit {
    fn drop(&mut self) {
        IDLE_COUNT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Idle connections, by what tells connections apart: address, TLS and its options.
#[derive(Default)]
struct IdleConnections(HashMap<u64, Vec<IdleConnection>>);

/// A thread's store. Others look into it before they make a connection of their own.
type SharedIdle = Arc<Mutex<IdleConnections>>;

/// The stores of all threads.
static ALL_THREADS: Mutex<Vec<SharedIdle>> = Mutex::new(Vec::new());

thread_local! {
    static THIS_THREAD: SharedIdle = {
        let own = SharedIdle::default();
        lock(&ALL_THREADS).push(Arc::clone(&own));
        own
    };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A connection is put in and taken out as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl IdleConnection {
    fn is_usable(&mut self, now: Instant) -> bool {
        self.expires > now && self.host.is_quiet()
    }
}

impl IdleConnections {
    /// The connection that was used last, if one can be used again.
    fn take(&mut self, key: u64, now: Instant) -> Option<HostConnection> {
        let kept = self.0.get_mut(&key)?;
        while let Some(mut idle) = kept.pop() {
            if idle.is_usable(now) {
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
pub(super) fn take_idle(peer: &HttpPeer, now: Instant) -> Option<HostConnection> {
    let key = peer.reuse_hash();
    THIS_THREAD.with(|own| {
        if let Some(host) = lock(own).take(key, now) {
            return Some(host);
        }
        let threads = lock(&ALL_THREADS);
        let others = threads.iter().filter(|other| !Arc::ptr_eq(own, other));
        let mut others = others.filter_map(|other| lock(other).take(key, now));
        others.find_map(HostConnection::move_to_this_thread)
    })
}

/// Keeps a connection to `peer` for later requests; `capacity` may be idle in all threads.
pub(super) fn put_idle(peer: &HttpPeer, host: HostConnection, capacity: usize) {
    let Some(time) = peer.idle_timeout() else {
        return;
    };
    if time.is_zero() {
        return;
    }
    let expires = Instant::now() + time;
    THIS_THREAD.with(|own| {
        let mut own = lock(own);
        let mut permit = IdlePermit::acquire(capacity);
        if permit.is_none() && own.evict() {
            permit = IdlePermit::acquire(capacity);
        }
        let Some(_permit) = permit else {
            return;
        };
        let idle = IdleConnection {
            host,
            expires,
            _permit,
        };
        own.0.entry(idle.host.key).or_default().push(idle);
    });
}

/// Closes the thread's idle connections whose time is over, or that their hosts have closed.
pub(super) fn close_expired() {
    let now = Instant::now();
    THIS_THREAD.with(|own| {
        lock(own).0.retain(|_, kept| {
            kept.retain_mut(|idle| idle.is_usable(now));
            !kept.is_empty()
        });
    });
}

/// Makes a connection to `peer`.
///
/// # Errors
/// As Pingora tells them.
pub(super) async fn connect(
    connector: &TransportConnector,
    peer: &HttpPeer,
) -> Result<HostConnection> {
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
            let socket = connected.map_err(|error| connect_error(error, address))?;
            // Heads are written in one piece, and nothing is gained by waiting for more.
            let _ = socket.set_nodelay(true);
            Transport::Tcp(socket.into())
        }
        _ => Transport::Tls(
            connector
                .new_stream(peer)
                .await
                .map_err(|error| error.into_up())?,
        ),
    };
    Ok(HostConnection {
        socket,
        key: peer.reuse_hash(),
    })
}

fn connect_error(error: io::Error, address: &std::net::SocketAddr) -> Box<Error> {
    let what = match error.kind() {
        ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        _ => ErrorType::ConnectError,
    };
    Error::because(what, format!("cannot connect to {address}"), error).into_up()
}

impl HostConnection {
    /// A connection of another thread as one of this.
    fn move_to_this_thread(self) -> Option<Self> {
        let socket = match self.socket {
            Transport::Tcp(socket) => {
                let socket = socket.into_registered().ok()?.into_std();
                Transport::Tcp(socket.and_then(TcpStream::from_std).ok()?.into())
            }
            // Its events come by way of the other thread.
            tls @ Transport::Tls(_) => tls,
        };
        Some(HostConnection { socket, ..self })
    }

    /// Whether nothing has come on an idle connection, neither bytes nor its end.
    fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        match &mut self.socket {
            Transport::Tcp(socket) => {
                matches!(socket.try_read(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock)
            }
            Transport::Tls(socket) => {
                let mut context = Context::from_waker(Waker::noop());
                let mut read_buf = ReadBuf::new(&mut byte);
                let read = Pin::new(socket).poll_read(&mut context, &mut read_buf);
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
            put_idle(&peer, host, 2);
            hosts.push((peer, accepted));
        }
        assert_eq!(IDLE_COUNT.load(Ordering::Relaxed), 2);
        // Another thread finds them as well, and a host that has closed is not among them.
        let last = hosts.remove(2);
        let found = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            let _context = runtime.enter();
            take_idle(&last.0, Instant::now()).is_some()
        });
        assert!(found.join().expect("no panic"));
        let left = Vec::from_iter(
            hosts
                .iter()
                .map(|(peer, _)| take_idle(peer, Instant::now()).is_some()),
        );
        assert_eq!(left.iter().filter(|found| **found).count(), 1, "{left:?}");
        assert_eq!(IDLE_COUNT.load(Ordering::Relaxed), 0);
    }
}
