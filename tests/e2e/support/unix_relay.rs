//! A Unix socket whose connections lead to a server on a TCP port.

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::serve::lock;

/// A Unix socket in front of a server. It stops when dropped.
pub(crate) struct UnixRelay {
    path: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    open: Mutex<Vec<UnixStream>>,
}

impl UnixRelay {
    /// Listens at `path`; connections lead to `target`.
    pub(crate) fn start(path: impl Into<PathBuf>, target: SocketAddr) -> Self {
        let path = path.into();
        let listener = UnixListener::bind(&path).expect("the path is free");
        let shared = Arc::new(Shared::default());
        let relay = UnixRelay {
            path,
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.stopping.load(Ordering::SeqCst) {
                    break;
                }
                lock(&shared.open).extend(stream.try_clone());
                // A connection that fails is closed, which its client sees.
                let _ = relay_connection(stream, target);
            }
        });
        relay
    }

    /// The address as the configuration has it.
    pub(crate) fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Closes all connections and refuses new ones. The file stays.
    pub(crate) fn kill(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Ends the wait for a connection.
        let _ = UnixStream::connect(&self.path);
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for UnixRelay {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_file(&self.path);
    }
}

/// The address of a port whose connections lead to the Unix socket at `path`, as long as the tests run.
pub(crate) fn tcp_relay(path: &Path) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let path = path.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let connected = UnixStream::connect(&path);
            let _ = connected.and_then(|server| relay_both_ways(server, client));
        }
    });
    address
}

fn relay_connection(client: UnixStream, target: SocketAddr) -> io::Result<()> {
    relay_both_ways(client, TcpStream::connect(target)?)
}

fn relay_both_ways(client: UnixStream, server: TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_client) = (client.try_clone()?, client);
    let (mut from_server, mut to_server) = (server.try_clone()?, server);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    Ok(())
}
