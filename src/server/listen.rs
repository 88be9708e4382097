//! Listening sockets: bound by us before anything starts, handed to Pingora when the proxy may serve.
//!
//! Pingora would retry an address in use for 30 seconds and then go on without it, alive but deaf. Here every failure
//! to listen ends the process with one line.

use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::process;
use std::sync::Arc;

use async_trait::async_trait;
use log::{error, info};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::net::TcpSocket;

use crate::admin::Readiness;

/// Connections that may wait to be accepted; the kernel lowers it to net.core.somaxconn.
const BACKLOG: u32 = 65_535;

/// A socket that is bound but does not listen yet.
#[derive(Debug)]
pub(super) struct Socket {
    address: SocketAddr,
    socket: TcpSocket,
}

impl Socket {
    /// Binds to `address`; the error is one line for a person.
    pub(super) fn bind(address: SocketAddr) -> Result<Self, String> {
        let bind = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4(),
                SocketAddr::V6(_) => TcpSocket::new_v6(),
            }?;
            // A server must be able to start again while connections of its predecessor are being forgotten.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        };
        match bind() {
            Ok(socket) => Ok(Socket { address, socket }),
            Err(error) => Err(cannot_listen(address, &error)),
        }
    }

    /// Opens the socket and puts it into the table in which Pingora looks for sockets that exist already.
    fn listen(self, table: &ListenFds) -> Result<(), String> {
        let listener = self
            .socket
            .listen(BACKLOG)
            .and_then(|listener| listener.into_std())
            .map_err(|error| cannot_listen(self.address, &error))?;
        let mut table = table.lock();
        table.add(self.address.to_string(), listener.into_raw_fd());
        info!("listening on {}", self.address);
        Ok(())
    }
}

fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => format!("cannot listen on {address}: address in use"),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

/// A listening service that serves or ends the process.
pub(super) struct Listening<S> {
    name: String,
    addresses: Option<Vec<String>>,
    service: Option<S>,
    sockets: Vec<Socket>,
    /// Told once the sockets listen.
    readiness: Option<Arc<Readiness>>,
}

impl<S: Service> Listening<S> {
    /// `service` listens on the addresses of `sockets`.
    pub(super) fn new(service: S, sockets: Vec<Socket>) -> Self {
        Listening {
            name: service.name().to_owned(),
            addresses: service.listen_addresses(),
            service: Some(service),
            sockets,
            readiness: None,
        }
    }

    /// Makes the process ready once the service listens.
    pub(super) fn then_ready(self, readiness: Arc<Readiness>) -> Self {
        Listening {
            readiness: Some(readiness),
            ..self
        }
    }
}

#[async_trait]
impl<S: Service + 'static> Service for Listening<S> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let (Some(mut service), Some(table)) = (self.service.take(), fds) else {
            return;
        };
        for socket in self.sockets.drain(..) {
            if let Err(reason) = socket.listen(&table) {
                error!("{reason}");
                process::exit(1);
            }
        }
        if let Some(readiness) = &self.readiness {
            readiness.set(true);
        }
        let stopping = shutdown.clone();
        let running = tokio::spawn(async move {
            service
                .start_service(Some(table), shutdown, listeners_per_fd)
                .await;
        });
        if running.await.is_err() || !*stopping.borrow() {
            error!("the listeners failed");
            process::exit(1);
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        self.addresses.clone()
    }
}
