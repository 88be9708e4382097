//! How a [`Backend`](super::Backend) serves its connections: one thread for each, which follows the backend's reply.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use socket2::SockRef;

use super::reply::{Next, Reply};
use super::wait::SOON;
use super::wire::{Framing, Head, Stream, Wire};

/// The path of health checks; requests for it are counted separately and get their own reply.
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

/// The state that the threads of a backend share.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) reply: Mutex<Reply>,
    pub(super) health_reply: Mutex<Reply>,
    pub(super) requests: AtomicU64,
    pub(super) health_checks: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) used: AtomicU64,
    pub(super) unanswered: AtomicU64,
    pub(super) recorded: Mutex<VecDeque<Recorded>>,
    pub(super) health_heads: Mutex<VecDeque<Head>>,
    pub(super) handshakes: Mutex<Vec<rustls::HandshakeKind>>,
    pub(super) open: Mutex<HashMap<u64, TcpStream>>,
    pub(super) stopping: AtomicBool,
    pub(super) stopped: Condvar,
    pub(super) stop_lock: Mutex<()>,
}

/// Accepts connections until the backend stops.
pub(super) fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
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

/// Serves one connection and returns how it must end.
fn serve(shared: &Shared, stream: TcpStream) -> io::Result<Next> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(SOON))?;
    let stream: Box<dyn Stream> = match &shared.tls {
        None => Box::new(stream),
        Some(config) => {
            let mut session =
                rustls::ServerConnection::new(config.clone()).map_err(io::Error::other)?;
            while session.is_handshaking() {
                session.complete_io(&mut &stream)?;
            }
            lock(&shared.handshakes).extend(session.handshake_kind());
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
        Reply::Response(response) => {
            shared.unanswered.fetch_add(1, Ordering::SeqCst);
            shared.pause(response.delay());
            shared.unanswered.fetch_sub(1, Ordering::SeqCst);
            if shared.stopping.load(Ordering::SeqCst) {
                return Ok(Next::Reset);
            }
            response.send(&shared.name, to_head, wire)
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
            let response = format!(
                "HTTP/1.1 200 OK\r\nX-Backend: {0}\r\nContent-Length: 2\r\n\r\nok",
                shared.name
            );
            for byte in response.as_bytes() {
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

/// Ends a connection whose thread has dropped its half: this closes the last handle.
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
    /// Waits, but returns early when the backend stops.
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

/// If a test fails elsewhere, a poisoned lock must not hide the reason.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
