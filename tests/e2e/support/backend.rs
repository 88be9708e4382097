//! A server to send requests to: it counts, records, misbehaves on demand, and can be stopped and started again.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{SockRef, Socket};

use super::ports;
use super::reply::{Next, Reply};
use super::wait::{SOON, wait_until};
use super::wire::{Framing, Head, Stream, Wire};

/// The path of health checks; requests for it are counted apart and get their own reply.
pub(crate) const HEALTH_PATH: &str = "/healthz";

/// How many requests are remembered.
const REMEMBERED: usize = 1_000;

/// A request as a backend saw it. The body grows while it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    number: u64,
}

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
    /// The port stays taken, so that nobody else gets it before the next start.
    Stopped(Socket),
    Changing,
}

struct Shared {
    name: String,
    address: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    reply: Mutex<Reply>,
    health_reply: Mutex<Reply>,
    requests: AtomicU64,
    health_checks: AtomicU64,
    accepted: AtomicU64,
    used: AtomicU64,
    recorded: Mutex<VecDeque<Recorded>>,
    health_heads: Mutex<VecDeque<Head>>,
    open: Mutex<HashMap<u64, TcpStream>>,
    stopping: AtomicBool,
    stopped: Condvar,
    stop_lock: Mutex<()>,
}

impl Backend {
    /// Starts a server that answers 200 with its name.
    pub(crate) fn start_new(name: &str) -> Self {
        Backend::build(name, None)
    }

    /// As [`start_new`](Self::start_new), with TLS.
    pub(crate) fn start_tls(name: &str, config: Arc<rustls::ServerConfig>) -> Self {
        Backend::build(name, Some(config))
    }

    fn build(name: &str, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let address = ports::free();
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
            recorded: Mutex::default(),
            health_heads: Mutex::default(),
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

    /// Changes what happens to requests from now on.
    pub(crate) fn set(&self, reply: impl Into<Reply>) {
        *lock(&self.shared.reply) = reply.into();
    }

    /// Changes what happens to requests for [`HEALTH_PATH`] from now on.
    pub(crate) fn set_health(&self, reply: impl Into<Reply>) {
        *lock(&self.shared.health_reply) = reply.into();
    }

    /// Requests so far, health checks aside, counted when their head has arrived.
    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Requests for [`HEALTH_PATH`] so far.
    pub(crate) fn health_checks(&self) -> u64 {
        self.shared.health_checks.load(Ordering::SeqCst)
    }

    /// Connections accepted so far, TCP health checks among them.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that brought at least one request which was no health check.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.used.load(Ordering::SeqCst)
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

    /// The head of the latest health check.
    #[track_caller]
    pub(crate) fn last_health_check(&self) -> Head {
        lock(&self.shared.health_heads)
            .back()
            .cloned()
            .expect("a health check has arrived")
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

    /// Stops at once: connections are reset, new ones refused. The port stays this backend's.
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

    /// Closes every connection that is open now, in an orderly way, and goes on listening.
    pub(crate) fn close_idle(&self) {
        self.close_connections(false);
    }

    fn close_connections(&self, reset: bool) {
        let open: Vec<u64> = {
            let open = lock(&self.shared.open);
            for stream in open.values() {
                if reset {
                    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                    // Wakes the connection's thread without a word to the other side; its close is the reset.
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

fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let Ok(clone) = stream.try_clone() else {
            continue;
        };
        lock(&shared.open).insert(number, clone);
        let shared = shared.clone();
        std::thread::spawn(move || {
            let next = serve(&shared, stream).unwrap_or(Next::Close);
            close(&shared, number, next);
        });
    }
}

/// Serves one connection and tells how it is to end.
fn serve(shared: &Shared, stream: TcpStream) -> io::Result<Next> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(SOON))?;
    let stream: Box<dyn Stream> = match &shared.tls {
        None => Box::new(stream),
        Some(config) => {
            let session =
                rustls::ServerConnection::new(config.clone()).map_err(io::Error::other)?;
            Box::new(rustls::StreamOwned::new(session, stream))
        }
    };
    let mut wire = Wire::new(stream);
    let mut used = false;
    while let Some(head) = wire.read_head()? {
        let next = if head.word(1) == HEALTH_PATH {
            shared.health_checks.fetch_add(1, Ordering::SeqCst);
            remember(&shared.health_heads, head.clone());
            let reply = lock(&shared.health_reply).clone();
            respond(shared, &reply, &head, None, &mut wire)?
        } else {
            if !used {
                used = true;
                shared.used.fetch_add(1, Ordering::SeqCst);
            }
            let request = shared.requests.fetch_add(1, Ordering::SeqCst);
            remember(
                &shared.recorded,
                Recorded {
                    head: head.clone(),
                    body: Vec::new(),
                    number: request,
                },
            );
            let reply = lock(&shared.reply).clone();
            respond(shared, &reply, &head, Some(request), &mut wire)?
        };
        if next != Next::Keep || shared.stopping.load(Ordering::SeqCst) {
            return Ok(next);
        }
        if head.has_token("connection", "close") {
            return Ok(Next::Close);
        }
    }
    Ok(Next::Close)
}

fn respond(
    shared: &Shared,
    reply: &Reply,
    head: &Head,
    request: Option<u64>,
    wire: &mut Wire,
) -> io::Result<Next> {
    let to_head = head.word(0) == "HEAD";
    match reply {
        Reply::Script(script) => return script(head, wire),
        Reply::Early(status) => {
            Reply::status(*status).field("Connection", "close").send(
                &shared.name,
                to_head,
                wire,
            )?;
            return Ok(Next::Close);
        }
        Reply::Hang => {
            while !wire.read_some(usize::MAX)?.is_empty() {}
            return Ok(Next::Close);
        }
        _ => {}
    }
    wire.read_body_with(head.framing().unwrap_or(Framing::Length(0)), |piece| {
        if let Some(request) = request {
            shared.record_body(request, piece);
        }
    })?;
    match reply {
        Reply::Answer(answer) => {
            shared.pause(answer.delay());
            if shared.stopping.load(Ordering::SeqCst) {
                return Ok(Next::Reset);
            }
            answer.send(&shared.name, to_head, wire)
        }
        Reply::Reset => Ok(Next::Reset),
        Reply::ResetMidBody => {
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nX-Backend: {}\r\nContent-Length: 1000\r\n\r\n0123456789",
                shared.name
            ))?;
            Ok(Next::Reset)
        }
        Reply::Drip(pause) => {
            let answer = format!(
                "HTTP/1.1 200 OK\r\nX-Backend: {0}\r\nContent-Length: 2\r\n\r\nok",
                shared.name
            );
            for byte in answer.as_bytes() {
                wire.send([*byte])?;
                shared.pause(*pause);
                if shared.stopping.load(Ordering::SeqCst) {
                    return Ok(Next::Reset);
                }
            }
            Ok(Next::Keep)
        }
        _ => Ok(Next::Close),
    }
}

/// Ends a connection whose thread has dropped its half: what is closed here is the last handle.
fn close(shared: &Shared, number: u64, next: Next) {
    let mut open = lock(&shared.open);
    if let Some(stream) = open.remove(&number) {
        if next == Next::Reset || shared.stopping.load(Ordering::SeqCst) {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        } else {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
}

impl Shared {
    /// Waits, but not past a stop.
    fn pause(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let guard = lock(&self.stop_lock);
        let _ = self
            .stopped
            .wait_timeout_while(guard, time, |()| !self.stopping.load(Ordering::SeqCst));
    }

    fn record_body(&self, request: u64, piece: &[u8]) {
        let mut recorded = lock(&self.recorded);
        if let Some(entry) = recorded
            .iter_mut()
            .rev()
            .find(|entry| entry.number == request)
        {
            entry.body.extend_from_slice(piece);
        }
    }
}

fn remember<T>(memory: &Mutex<VecDeque<T>>, item: T) {
    let mut memory = lock(memory);
    if memory.len() == REMEMBERED {
        memory.pop_front();
    }
    memory.push_back(item);
}

/// A test that has failed elsewhere must not hide its reason behind a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
