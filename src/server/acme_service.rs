//! Certificates by ACME within the process: what the parts of the process share of it, and when it works.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use super::lifecycle::{Lifecycle, Phase};
use crate::acme::{AcmeManager, AcmeManagerParts, AcmeStatus};
use crate::acme_challenges::AcmeChallenges;
use crate::cluster::Cluster;
use crate::config::{Acme, Config};
use crate::event_log::EventLog;
use crate::metrics::MetricsCounters;
use crate::supervisor::{Supervisor, Task};

/// What the parts of the process share about ACME. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct SharedAcme {
    /// The answers to challenges.
    pub(super) challenges: Arc<AcmeChallenges>,
    /// What operators see.
    pub(super) status: Arc<AcmeStatus>,
    /// Told when there are new certificates.
    pub(super) renewed: Arc<Notify>,
    config: Arc<watch::Sender<Option<Arc<Acme>>>>,
}

impl SharedAcme {
    pub(super) fn new(config: &Config) -> Self {
        SharedAcme {
            challenges: Arc::default(),
            status: Arc::default(),
            renewed: Arc::default(),
            config: Arc::new(watch::Sender::new(config.acme.clone().map(Arc::new))),
        }
    }

    /// Orders what `config` says from now on. Failed orders are tried again at once if that has changed.
    pub(super) fn configure(&self, config: &Config) {
        self.config.send_if_modified(|current| {
            let is_changed = current.as_deref() != config.acme.as_ref();
            if is_changed {
                *current = config.acme.clone().map(Arc::new);
            }
            is_changed
        });
    }
}

/// Orders certificates while the process serves: an authority's questions have to reach it.
#[derive(Debug)]
pub(super) struct AcmeService {
    manager: AcmeManager,
    lifecycle: Arc<Lifecycle>,
}

impl AcmeService {
    pub(super) fn new(
        shared: &SharedAcme,
        event_log: Arc<EventLog>,
        counts: Arc<MetricsCounters>,
        lifecycle: Arc<Lifecycle>,
        cluster: Option<Cluster>,
    ) -> Self {
        AcmeService {
            manager: AcmeManager::new(AcmeManagerParts {
                config: shared.config.subscribe(),
                challenges: Arc::clone(&shared.challenges),
                status: Arc::clone(&shared.status),
                renewed: Arc::clone(&shared.renewed),
                event_log,
                counts,
                cluster,
            }),
            lifecycle,
        }
    }

    /// Runs until the process ends. An order that is under way when a handover begins is given up; the successor makes it
    /// again.
    pub(super) async fn run(self) {
        let AcmeService {
            mut manager,
            lifecycle,
        } = self;
        let mut supervisor = Supervisor::new(Task::Acme, "");
        let mut phase = lifecycle.watch_phase();
        let serves = |phase: &Phase| *phase == Phase::Serving;
        while phase.wait_for(serves).await.is_ok() {
            tokio::select! {
                left = phase.wait_for(|phase| !serves(phase)) => drop(left),
                _ = supervisor.run(manager.run()) => {}
            }
            manager.leave();
        }
    }
}
