//! The running process, as the admin API sees and controls it.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::change_lock::ChangeLock;
use super::drift_source::DriftSource;
use super::edge::Connections;
use super::event_loop::HANDOVER_UNDER_WAY;
use super::lifecycle::Lifecycle;
use super::reload_plan::find_pool;
use super::reloader::ReloaderHandle;
use crate::acme::{AcmeCertificate, AcmeStatus};
use crate::admin::{
    ChangeError, Drift, HeldPermit, LoadedConfig, PoolChange, ProcessHandle, ProcessLoad,
};
use crate::cluster::{Cluster, ClusterStatus};
use crate::discovery::{SourceStatus, SourceTable};
use crate::event_log::EventLog;
use crate::history::History;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::proxy::{
    self, ActiveConfig, ExplainError, ExplainRequest, RequestExplanation, TrafficState,
};

/// The parts of the process that the API reads and changes.
#[derive(Debug)]
pub(super) struct RunningProcess {
    pub(super) loaded_config: Arc<ArcSwap<LoadedConfig>>,
    pub(super) active: Arc<ArcSwap<ActiveConfig>>,
    pub(super) traffic: Arc<TrafficState>,
    pub(super) connections: Arc<Connections>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) event_log: Arc<EventLog>,
    pub(super) reloads: ReloaderHandle,
    pub(super) changes: Arc<ChangeLock>,
    pub(super) history: Arc<History>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) acme: Arc<AcmeStatus>,
    /// `None`: the process is alone.
    pub(super) cluster: Option<Cluster>,
    pub(super) sources: Arc<SourceTable>,
    pub(super) drift: DriftSource,
}

#[async_trait]
impl ProcessHandle for RunningProcess {
    fn loaded_config(&self) -> Arc<LoadedConfig> {
        self.loaded_config.load_full()
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.active.load().pools.clone()
    }

    fn sources(&self) -> HashMap<String, Vec<SourceStatus>> {
        let loaded_config = self.loaded_config.load();
        let pools = loaded_config.config.pools.iter().map(|pool| {
            let mut sources = Vec::new();
            for source in pool.sources() {
                // A name may stand there with several ports.
                if !sources.contains(&source) {
                    sources.push(source);
                }
            }
            let sources = sources.iter();
            let status = sources.map(|source| self.sources.state(source).status(source));
            (pool.name.clone(), status.collect::<Vec<_>>())
        });
        pools.filter(|(_, sources)| !sources.is_empty()).collect()
    }

    fn acme(&self) -> Arc<Vec<AcmeCertificate>> {
        self.acme.certificates()
    }

    fn cluster(&self) -> Option<ClusterStatus> {
        self.cluster.as_ref().map(Cluster::status)
    }

    fn drift(&self) -> Drift {
        self.drift.drift()
    }

    fn explain(&self, request: &ExplainRequest) -> Result<RequestExplanation, ExplainError> {
        proxy::explain(&self.active.load(), request)
    }

    fn load(&self) -> ProcessLoad {
        let phase = self.lifecycle.phase();
        ProcessLoad {
            ready: phase.is_ready(),
            draining: phase.closes_connections(),
            in_flight: self.traffic.present(),
            connections: self.connections.open(),
            panics: self.traffic.panics(),
        }
    }

    fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    fn event_log(&self) -> &Arc<EventLog> {
        &self.event_log
    }

    fn permit(&self) -> Result<HeldPermit, ChangeError> {
        match self.changes.try_permit() {
            Some(permit) => Ok(Box::new(permit)),
            None => Err(ChangeError::Busy(HANDOVER_UNDER_WAY.to_owned())),
        }
    }

    async fn change(&self, pool: &str, change: PoolChange) -> Result<(), ChangeError> {
        if let (None, PoolChange::Drain { host, drained }) = (&self.cluster, &change) {
            // It needs no new pool, and waits for no reload.
            if let Some(pool) = find_pool(&self.active.load(), pool)
                && let Some(member) = pool.member(host)
            {
                pool.drain(member, *drained);
                return Ok(());
            }
        }
        self.reloads.change(pool, change).await
    }

    fn history(&self) -> &Arc<History> {
        &self.history
    }
}
