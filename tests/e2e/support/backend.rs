//! A server that gets the requests: it counts, records, misbehaves on demand, and can be stopped and started again.

use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{SockRef, Socket};

use super::ports;
use super::reply::Reply;
use super::serve::{Recorded, Shared, accept, lock};
use super::wait::{SOON, wait_until};
use super::wire::Head;

/// A server on a loopback port. It stops when dropped.
pub(crate) struct Backend {
    shared: Arc<Shared>,
    state: Mutex<State>,
}

enum State {
    Running {
        listener: TcpListener,
        acceptor: JoinHandle<()>,
    },
    /// Holds the port, so that no other process gets it before the next start.
    Stopped(Socket),
    Changing,
}

impl Backend {
    /// Starts a server that responds with 200 and its name.
    pub(crate) fn start_new(name: &str) -> Self {
        Backend::build(name, ports::free(), None)
    }

    /// Like [`start_new`](Self::start_new), on this address.
    pub(crate) fn start_at(name: &str, address: SocketAddr) -> Self {
        Backend::build(name, address, None)
    }

    /// Like [`start_new`](Self::start_new), with TLS.
    pub(crate) fn start_tls(name: &str, config: Arc<rustls::ServerConfig>) -> Self {
        Backend::build(name, ports::free(), Some(config))
    }

    fn build(name: &str, address: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let shared = Shared {
            name: name.to_owned(),
            address,
            tls,
            reply: Mutex::new(Reply::ok().into()),
            health_reply: Mutex::new(Reply::ok().into()),
            requests: AtomicU64::new(0),
            health_checks: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            used: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            recorded: Mutex::default(),
            health_heads: Mutex::default(),
            handshakes: Mutex::default(),
            open: Mutex::default(),
            stopping: AtomicBool::new(false),
            stopped: Condvar::new(),
            stop_lock: Mutex::new(()),
        };
        let backend = Backend {
            shared: Arc::new(shared),
            state: Mutex::new(State::Stopped(ports::hold(address))),
        };
        backend.start();
        backend
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.address
    }

    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    /// Changes the reply to requests from now on.
    pub(crate) fn set(&self, reply: impl Into<Reply>) {
        *lock(&self.shared.reply) = reply.into();
    }

    /// Changes the reply to requests for [`HEALTH_PATH`] from now on.
    pub(crate) fn set_health(&self, reply: impl Into<Reply>) {
        *lock(&self.shared.health_reply) = reply.into();
    }

    /// Requests so far, without health checks, counted when their head has arrived.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Requests for [`HEALTH_PATH`] so far.
    pub(crate) fn health_checks(&self) -> u64 {
        self.shared.health_checks.load(Ordering::SeqCst)
    }

    /// Connections accepted so far, including TCP health checks.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that brought at least one request other than a health check.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.used.load(Ordering::SeqCst)
    }

    /// Requests that have arrived completely and whose response has not begun.
    pub(crate) fn unanswered(&self) -> u64 {
        self.shared.unanswered.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub(crate) fn open_connections(&self) -> usize {
        lock(&self.shared.open).len()
    }

    /// The latest request, as far as it has arrived.
    #[track_caller]
    pub(crate) fn last(&self) -> Recorded {
        lock(&self.shared.recorded)
            .back()
            .cloned()
            .expect("a request has arrived")
    }

    /// The latest requests, in the order of their arrival.
    pub(crate) fn all(&self) -> Vec<Recorded> {
        Vec::from_iter(lock(&self.shared.recorded).iter().cloned())
    }

    /// The head of the latest health check.
    #[track_caller]
    pub(crate) fn last_health_check(&self) -> Head {
        lock(&self.shared.health_heads)
            .back()
            .cloned()
            .expect("a health check has arrived")
    }

    /// The kinds of the TLS handshakes that have succeeded, in their order; they are forgotten.
    pub(crate) fn take_handshakes(&self) -> Vec<rustls::HandshakeKind> {
        std::mem::take(&mut *lock(&self.shared.handshakes))
    }

    /// Listens again on the same port.
    pub(crate) fn start(&self) {
        let mut state = lock(&self.state);
        *state = match std::mem::replace(&mut *state, State::Changing) {
            State::Stopped(socket) => {
                socket.listen(1024).expect("a bound socket can listen");
                self.shared.stopping.store(false, Ordering::SeqCst);
                let listener = TcpListener::from(socket);
                let accepting = listener.try_clone().expect("a socket can be cloned");
                let shared = self.shared.clone();
                let acceptor = std::thread::spawn(move || accept(&shared, &accepting));
                State::Running { listener, acceptor }
            }
            running => running,
        };
    }

    /// Stops at once: connections are reset, new ones refused. The port stays reserved for this backend.
    pub(crate) fn stop(&self) {
        let mut state = lock(&self.state);
        *state = match std::mem::replace(&mut *state, State::Changing) {
            State::Running { listener, acceptor } => {
                self.shared.stopping.store(true, Ordering::SeqCst);
                // On Linux this wakes the thread in `accept`.
                let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
                acceptor.join().expect("the acceptor does not panic");
                drop(listener);
                self.close_connections(true);
                State::Stopped(ports::hold(self.shared.address))
            }
            stopped => stopped,
        };
    }

    /// Closes every open connection in an orderly way, and continues to listen.
    pub(crate) fn close_idle(&self) {
        self.close_connections(false);
    }

    fn close_connections(&self, reset: bool) {
        let open: Vec<u64> = {
            let open = lock(&self.shared.open);
            for stream in open.values() {
                if reset {
                    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                    // Wakes the connection's thread without sending anything; the thread's close is the reset.
                    let _ = stream.shutdown(Shutdown::Read);
                } else {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
            open.keys().copied().collect()
        };
        {
            let _guard = lock(&self.shared.stop_lock);
            self.shared.stopped.notify_all();
        }
        wait_until(SOON, "the backend's connections end", || {
            let still = lock(&self.shared.open);
            open.iter().all(|number| !still.contains_key(number))
        });
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.shared.name, self.shared.address)
    }
}
