//! The admin listener as a service. A fresh process opens it at start, a successor once it has taken over. It stays
//! open to the end of a stopping process, or until a successor responds instead.

use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::process;
use std::sync::Arc;

use async_trait::async_trait;
use log::error;
use nix::unistd::close;
use pingora::listeners::ListenerConfig;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::{Service, listening};
use tokio::sync::watch;

use super::edge::inherited_listeners;
use super::lifecycle::{Lifecycle, Phase};
use super::listening_service::BoundSocket;
use crate::admin::{Api, ApiServer, Caller};

/// Serves the API on the admin address.
pub(super) struct AdminService {
    address: SocketAddr,
    api: Arc<Api>,
    /// `None`: the socket is inherited from the predecessor.
    socket: Option<BoundSocket>,
    lifecycle: Arc<Lifecycle>,
}

impl AdminService {
    pub(super) fn new(
        address: SocketAddr,
        socket: Option<BoundSocket>,
        api: Arc<Api>,
        lifecycle: Arc<Lifecycle>,
    ) -> Self {
        AdminService {
            address,
            api,
            socket,
            lifecycle,
        }
    }

    fn service(&self) -> listening::Service<ApiServer> {
        let api_server = ApiServer::new(Arc::clone(&self.api), Caller::Public);
        let mut service = listening::Service::new(self.name().to_owned(), api_server);
        service.add_listener(ListenerConfig::tcp(self.address.to_string()));
        service
    }

    /// Duplicates the socket, for the case that this process serves again: Pingora closes the one that it listens on.
    fn duplicate(&self, table: Option<&ListenFds>) -> Option<std::net::TcpListener> {
        let number = table?.lock().get(&self.address.to_string()).copied()?;
        inherited_listeners::duplicate_listener(number)
            .map_err(|error| error!("the socket of {}: {error}", self.address))
            .ok()
    }
}

#[async_trait]
impl Service for AdminService {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        self.lifecycle.wait_signals_installed().await;
        match (self.socket.take(), &fds) {
            (Some(socket), Some(table)) => {
                if let Err(reason) = socket.listen(table) {
                    error!("{reason}");
                    process::exit(1);
                }
            }
            _ => self.lifecycle.wait_ready().await,
        }
        let mut phase = self.lifecycle.watch_phase();
        loop {
            let duplicate = self.duplicate(fds.as_ref());
            let (stop, stopped) = watch::channel(false);
            let mut service = self.service();
            let serving = service.start_service(fds.clone(), stopped, listeners_per_fd);
            // A draining process keeps responding to operators until a successor does.
            let succeeded = async {
                if phase.wait_for(|phase| phase.has_successor()).await.is_ok() {
                    stop.send_replace(true);
                }
                std::future::pending::<()>().await
            };
            tokio::select! {
                () = serving => {}
                () = succeeded => {}
            }
            let (Some(duplicate), Some(table)) = (duplicate, &fds) else {
                return;
            };
            let duplicate = duplicate.into_raw_fd();
            table.lock().add(self.address.to_string(), duplicate);
            let decided = phase.wait_for(|phase| *phase != Phase::HandingOver).await;
            if !decided.is_ok_and(|phase| *phase == Phase::Serving) {
                // The kernel would keep queueing connections on an open socket.
                if let Err(error) = close(duplicate) {
                    error!("the socket of {}: {error}", self.address);
                }
                return;
            }
        }
    }

    fn name(&self) -> &str {
        "admin"
    }

    fn threads(&self) -> Option<usize> {
        // The load is small: a few requests per second.
        Some(1)
    }
}
