//! The admin listener as a service: in a fresh process from the start, in a successor once it has taken over; to the end
//! of a process that stops, and until a successor answers in its place.

use std::net::SocketAddr;
use std::process;
use std::sync::Arc;

use async_trait::async_trait;
use log::error;
use pingora::listeners::ListenerConfig;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::{Service, listening};

use super::listen::Socket;
use super::standing::Standing;
use crate::admin::{Api, Door, Entrance, Readiness};

/// The admin listener.
pub(super) struct AdminListening {
    service: listening::Service<Entrance>,
    /// `None`: it comes from the predecessor.
    socket: Option<Socket>,
    readiness: Arc<Readiness>,
    standing: Arc<Standing>,
}

impl AdminListening {
    pub(super) fn new(
        address: SocketAddr,
        socket: Option<Socket>,
        api: Arc<Api>,
        readiness: Arc<Readiness>,
        standing: Arc<Standing>,
    ) -> Self {
        let entrance = Entrance::new(api, Door::Public);
        let mut service = listening::Service::new("admin".to_owned(), entrance);
        // A probe every second is much.
        service.threads = Some(1);
        service.add_listener(ListenerConfig::tcp(address.to_string()));
        AdminListening {
            service,
            socket,
            readiness,
            standing,
        }
    }
}

#[async_trait]
impl Service for AdminListening {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        self.standing.watched().await;
        match (self.socket.take(), &fds) {
            (Some(socket), Some(table)) => {
                if let Err(reason) = socket.listen(table) {
                    error!("{reason}");
                    process::exit(1);
                }
            }
            _ => self.readiness.wait().await,
        }
        // Whoever watches a process that drains wants to hear that it does, not that nobody is there.
        let succeeded = self.standing.watch_succession();
        let service = &mut self.service;
        service
            .start_service(fds, succeeded, listeners_per_fd)
            .await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }
}
