//! A TCP forwarder, which can fall silent as a network does that is partitioned: connections stay, and no byte passes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// Forwards connections to a server while it exists.
pub(crate) struct Forwarder {
    address: SocketAddr,
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    is_silent: Mutex<bool>,
    changed: Condvar,
}

impl Forwarder {
    pub(crate) fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let line = Arc::new(Line::default());
        let forwarded = Arc::clone(&line);
        // The threads end with the test, or with their connections.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let line = Arc::clone(&forwarded);
                if let Ok(server) = TcpStream::connect(to) {
                    join(client, server, &line);
                }
            }
        });
        Forwarder { address, line }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets no byte pass, or lets them pass again.
    pub(crate) fn set_silent(&self, is_silent: bool) {
        *lock(&self.line.is_silent) = is_silent;
        self.line.changed.notify_all();
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.set_silent(false);
    }
}

fn lock(is_silent: &Mutex<bool>) -> std::sync::MutexGuard<'_, bool> {
    is_silent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies in both directions, each in a thread of its own.
fn join(client: TcpStream, server: TcpStream, line: &Arc<Line>) {
    let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    for (from, to) in [(from_client, server), (from_server, client)] {
        let line = Arc::clone(line);
        thread::spawn(move || copy(from, to, &line));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, line: &Line) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let silent = lock(&line.is_silent);
        drop(
            line.changed
                .wait_while(silent, |is_silent| *is_silent)
                .unwrap_or_else(PoisonError::into_inner),
        );
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
