//! Health checks, sources of hosts, reloads, orders of certificates and the watch of files as a background service.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;
use tokio::sync::watch;

use super::acme_service::AcmeService;
use super::disk_watch::DiskWatch;
use super::lifecycle::{Lifecycle, Phase};
use super::reloader::{Reloader, ReloaderCommands};
use crate::cluster::Cluster;
use crate::supervisor::{Supervisor, Task};

/// Runs health checks, sources of hosts, reloads and orders of certificates on a thread of its own; ready after the first round of checks.
pub(super) struct HealthService {
    /// `None` once the service has started.
    parts: Mutex<Option<HealthServiceParts>>,
}

/// What the service runs.
struct HealthServiceParts {
    reloader: Reloader,
    reload_commands: ReloaderCommands,
    acme: AcmeService,
    disk_watch: DiskWatch,
    lifecycle: Arc<Lifecycle>,
}

impl HealthService {
    pub(super) fn new(
        reloader: Reloader,
        reload_commands: ReloaderCommands,
        acme: AcmeService,
        disk_watch: DiskWatch,
        lifecycle: Arc<Lifecycle>,
    ) -> Self {
        HealthService {
            parts: Mutex::new(Some(HealthServiceParts {
                reloader,
                reload_commands,
                acme,
                disk_watch,
                lifecycle,
            })),
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
        let Some(HealthServiceParts {
            mut reloader,
            mut reload_commands,
            acme,
            disk_watch,
            lifecycle,
        }) = taken
        else {
            return;
        };
        let discovery = reloader.discovery.clone();
        tokio::spawn(async move { discovery.run().await });
        if let Some(cluster) = reloader.cluster.clone() {
            tokio::spawn(follow_cluster(cluster, lifecycle));
        }
        reloader.start().await;
        ready.notify_ready();
        tokio::spawn(acme.run());
        tokio::spawn(disk_watch.run());
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

/// Follows the cluster until the process ends. It is a member of it while it serves.
async fn follow_cluster(cluster: Cluster, lifecycle: Arc<Lifecycle>) {
    let mut supervisor = Supervisor::new(Task::Cluster, "");
    loop {
        let (serving, leaving) = (lifecycle.watch_phase(), lifecycle.watch_phase());
        let leaving = async {
            let leaving = until_serving(leaving, true).await;
            until_serving(leaving, false).await;
        };
        let serving = async {
            until_serving(serving, true).await;
        };
        let run = cluster.run(Box::pin(serving), Box::pin(leaving));
        supervisor.run(run).await;
    }
}

/// Waits until the process serves, or does so no longer. The phases end with it.
async fn until_serving(mut phase: watch::Receiver<Phase>, serves: bool) -> watch::Receiver<Phase> {
    let _ = phase
        .wait_for(|phase| (*phase == Phase::Serving) == serves)
        .await;
    phase
}
