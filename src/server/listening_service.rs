//! Listening sockets: bound before any service starts, handed to Pingora when the proxy may serve.
//!
//! Pingora would retry an address in use for 30 seconds and then continue without it. Here every failure to listen ends
//! the process with one line. A successor receives its sockets from its predecessor instead.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use log::{error, info};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use super::handover::{Successor, Takeover};
use super::lifecycle::Lifecycle;
use super::listener_files::{self, ListenerFiles};
use super::process_identity::ProcessIdentity;
use crate::config::{Config, ListenerAddress};
use crate::logging;

/// Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn.
const BACKLOG: u32 = 65_535;

/// How long a successor whose predecessor has died retries to bind: the kernel closes the sockets of a killed process
/// within milliseconds, unless it is busy.
pub(super) const REBIND_TIMEOUT: Duration = Duration::from_secs(2);

const REBIND_INTERVAL: Duration = Duration::from_millis(5);

/// All listening addresses, including the admin listener.
pub(super) fn addresses(config: &Config) -> Vec<ListenerAddress> {
    let listeners = config
        .listeners
        .iter()
        .map(|listener| listener.address.clone());
    let admin = config.admin.address.map(ListenerAddress::from);
    listeners.chain(admin).collect()
}

/// A socket that is bound but does not listen yet.
#[derive(Debug)]
pub(super) struct BoundSocket {
    address: ListenerAddress,
    socket: UnusedSocket,
}

#[derive(Debug)]
enum UnusedSocket {
    Tcp(TcpSocket),
    Unix(OwnedFd, Arc<Path>, Arc<ListenerFiles>),
}

impl BoundSocket {
    /// Binds to `address`, one of the listeners `all`, and retries until `timeout`. The error is one line for a person.
    /// Blocks the thread; nothing else runs at that time.
    pub(super) fn bind(
        address: &ListenerAddress,
        all: &[ListenerAddress],
        files: &Arc<ListenerFiles>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let deadline = Instant::now() + timeout;
        loop {
            match BoundSocket::try_bind(address, all, files) {
                Err(_) if Instant::now() < deadline => thread::sleep(REBIND_INTERVAL),
                outcome => return outcome,
            }
        }
    }

    fn try_bind(
        address: &ListenerAddress,
        all: &[ListenerAddress],
        files: &Arc<ListenerFiles>,
    ) -> Result<Self, String> {
        let bound = match address {
            ListenerAddress::Inet(inet) => bind_tcp(*inet, all).map(UnusedSocket::Tcp),
            ListenerAddress::Unix(path) => files
                .bind(path)
                .map(|socket| UnusedSocket::Unix(socket, Arc::clone(path), Arc::clone(files))),
        };
        match bound {
            Ok(socket) => Ok(BoundSocket {
                address: address.clone(),
                socket,
            }),
            Err(error) => Err(cannot_listen(address, &error)),
        }
    }

    /// Whether `address`, one of the listeners `all`, could be bound now. The error is one line for a person.
    pub(super) fn try_out(
        address: &ListenerAddress,
        all: &[ListenerAddress],
    ) -> Result<(), String> {
        let tried = match address {
            ListenerAddress::Inet(inet) => bind_tcp(*inet, all).map(drop),
            ListenerAddress::Unix(path) => listener_files::check(path),
        };
        tried.map_err(|error| cannot_listen(address, &error))
    }

    /// Starts to listen and adds the socket to the table in which Pingora looks up existing sockets.
    pub(super) fn listen(self, table: &ListenFds) -> Result<(), String> {
        let listening = match self.socket {
            UnusedSocket::Tcp(socket) => socket
                .listen(BACKLOG)
                .and_then(|listener| listener.into_std())
                .map(OwnedFd::from),
            UnusedSocket::Unix(socket, path, files) => files
                .listen(&socket, &path, BACKLOG.cast_signed())
                .map(|()| socket),
        };
        let listener = listening.map_err(|error| cannot_listen(&self.address, &error))?;
        let mut table = table.lock();
        table.add(self.address.to_string(), listener.into_raw_fd());
        info!("listening on {}", self.address);
        Ok(())
    }
}

fn bind_tcp(address: SocketAddr, all: &[ListenerAddress]) -> io::Result<TcpSocket> {
    let inet = all.iter().filter_map(ListenerAddress::as_inet);
    let mut ipv4 = inet.filter(SocketAddr::is_ipv4);
    let has_ipv4_listener = ipv4.any(|other| other.port() == address.port());
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Allows a restart while connections of the last process are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() && has_ipv4_listener {
        // A dual-stack [::] would prevent 0.0.0.0 from being bound on the same port.
        set_ipv6_v6only(&socket, true)?;
    }
    socket.bind(address)?;
    Ok(socket)
}

fn cannot_listen(address: &ListenerAddress, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("cannot listen on {address}: address in use"),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

/// A listening service that either serves or ends the process.
pub(super) struct ListeningService<S> {
    name: String,
    service: Option<S>,
    /// All addresses to listen on.
    addresses: Vec<ListenerAddress>,
    files: Arc<ListenerFiles>,
    /// The sockets that are bound already.
    sockets: Vec<BoundSocket>,
    /// The address that another service listens on.
    released: Option<ListenerAddress>,
    /// Receives the remaining sockets from the predecessor.
    successor: Option<Successor>,
    process_identity: Arc<ProcessIdentity>,
    lifecycle: Arc<Lifecycle>,
}

impl<S: Service> ListeningService<S> {
    /// `service` listens on `addresses`. Those that `successor` inherits are received later; the others are bound now,
    /// within `timeout`.
    ///
    /// # Errors
    /// One line about the first address that cannot be bound.
    pub(super) fn new(
        service: S,
        (addresses, files): (Vec<ListenerAddress>, Arc<ListenerFiles>),
        successor: Option<Successor>,
        process_identity: Arc<ProcessIdentity>,
        lifecycle: Arc<Lifecycle>,
        timeout: Duration,
    ) -> Result<Self, String> {
        let inherited = |address| successor.as_ref().is_some_and(|s| s.inherits(address));
        let to_bind = addresses.iter().filter(|address| !inherited(address));
        Ok(ListeningService {
            name: service.name().to_owned(),
            service: Some(service),
            sockets: to_bind
                .map(|address| BoundSocket::bind(address, &addresses, &files, timeout))
                .collect::<Result<_, _>>()?,
            addresses,
            files,
            released: None,
            successor,
            process_identity,
            lifecycle,
        })
    }

    /// Gives the socket of `address` to another service, if it is bound already.
    pub(super) fn release(&mut self, address: SocketAddr) -> Option<BoundSocket> {
        let address = ListenerAddress::from(address);
        let mut sockets = self.sockets.iter();
        let position = sockets.position(|socket| socket.address == address)?;
        self.released = Some(address);
        Some(self.sockets.remove(position))
    }

    /// Fills the table in which Pingora looks up sockets.
    async fn listen(&mut self, table: &ListenFds) -> Result<Option<Takeover>, String> {
        let mut takeover = match self.successor.take() {
            None => None,
            Some(successor) => successor.receive_listeners(&self.addresses).await?,
        };
        if let Some(takeover) = &mut takeover {
            let mut table = table.lock();
            for (address, socket) in takeover.sockets.drain(..) {
                table.add(address.to_string(), socket);
                info!("listening on {address}, taken over");
            }
        }
        for socket in self.sockets.drain(..) {
            socket.listen(table)?;
        }
        for address in &self.addresses {
            let missing = table.lock().get(&address.to_string()).is_none();
            if missing && self.released.as_ref() != Some(address) {
                let (all, files) = (&self.addresses, &self.files);
                BoundSocket::bind(address, all, files, REBIND_TIMEOUT)?.listen(table)?;
            }
        }
        Ok(takeover)
    }
}

#[async_trait]
impl<S: Service + 'static> Service for ListeningService<S> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let (Some(mut service), Some(table)) = (self.service.take(), fds) else {
            return;
        };
        self.lifecycle.wait_signals_installed().await;
        let takeover = match self.listen(&table).await {
            Ok(takeover) => takeover,
            Err(reason) => {
                error!("{reason}");
                self.process_identity.shut_down();
                process::exit(1);
            }
        };
        let stopping = shutdown.clone();
        let sockets = Arc::clone(&table);
        let (polled, started) = oneshot::channel();
        logging::mark_started();
        let running = tokio::spawn(async move {
            let mut serving = service.start_service(Some(table), shutdown, listeners_per_fd);
            // The first poll builds the listeners and spawns their accept loops; the service then waits for their end.
            if poll_fn(|context| Poll::Ready(serving.as_mut().poll(context).is_pending())).await {
                // The receiver is gone only if this process ends.
                let _ = polled.send(());
                serving.await;
            }
        });
        if started.await.is_ok() {
            let addresses = self.addresses.clone();
            self.process_identity
                .start_serving(addresses, sockets, takeover)
                .await;
        }
        if running.await.is_err() || !*stopping.borrow() {
            error!("the listeners failed");
            process::exit(1);
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(
            self.addresses
                .iter()
                .map(ListenerAddress::to_string)
                .collect(),
        )
    }
}
