//! Health checks, sources of hosts, reloads and orders of certificates as a background service.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;

use super::acme_service::AcmeService;
use super::reloader::{Reloader, ReloaderCommands};
use crate::supervisor::{Supervisor, Task};

/// Runs health checks, sources of hosts, reloads and orders of certificates on a thread of its own; ready after the first round of checks.
pub(super) struct HealthService {
    /// `None` once the service has started.
    parts: Mutex<Option<(Reloader, ReloaderCommands, AcmeService)>>,
}

impl HealthService {
    pub(super) fn new(
        reloader: Reloader,
        reload_commands: ReloaderCommands,
        acme: AcmeService,
    ) -> Self {
        HealthService {
            parts: Mutex::new(Some((reloader, reload_commands, acme))),
        }
    }
}

#[async_trait]
impl BackgroundService for HealthService {
    async fn start_with_ready_notifier(
        &self,
        _shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let taken = self
            .parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some((mut reloader, mut reload_commands, acme)) = taken else {
            return;
        };
        let discovery = reloader.discovery.clone();
        tokio::spawn(async move { discovery.run().await });
        reloader.start().await;
        ready.notify_ready();
        tokio::spawn(acme.run());
        let mut supervisor = Supervisor::new(Task::Reload, "");
        while supervisor
            .run(reloader.serve(&mut reload_commands))
            .await
            .is_none()
        {}
        // Draining requests still choose hosts, so health checks run until the process ends.
        std::future::pending().await
    }
}
