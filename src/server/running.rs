//! The process as it is told of over the API.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::change_gate::ChangeGate;
use super::edge::Connections;
use super::reload::Reloads;
use super::signals::UNDER_WAY;
use crate::admin::{Change, ChangeError, Current, Load, Permit, Readiness, Running};
use crate::history::History;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::proxy::{self, Described, Explanation, Inexplicable, Site, Traffic};

/// The running process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) current: Arc<ArcSwap<Current>>,
    pub(super) site: Arc<ArcSwap<Site>>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) connections: Arc<Connections>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) journal: Arc<Journal>,
    pub(super) reloads: Reloads,
    pub(super) changes: Arc<ChangeGate>,
    pub(super) history: Arc<History>,
    pub(super) metrics: Arc<Metrics>,
}

#[async_trait]
impl Running for Process {
    fn current(&self) -> Arc<Current> {
        self.current.load_full()
    }

    fn pools(&self) -> Vec<Arc<Pool>> {
        self.site.load().pools.clone()
    }

    fn explain(&self, request: &Described) -> Result<Explanation, Inexplicable> {
        proxy::explain(&self.site.load(), request)
    }

    fn load(&self) -> Load {
        Load {
            ready: self.readiness.is_ready(),
            draining: self.traffic.is_draining(),
            in_flight: self.traffic.present(),
            connections: self.connections.open(),
            panics: self.traffic.panics(),
        }
    }

    fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    fn permit(&self) -> Result<Permit, ChangeError> {
        match self.changes.permit() {
            Some(permit) => Ok(Box::new(permit)),
            None => Err(ChangeError::Busy(UNDER_WAY.to_owned())),
        }
    }

    async fn change(&self, pool: &str, change: Change) -> Result<(), ChangeError> {
        self.reloads.change(pool, change).await
    }

    fn history(&self) -> &Arc<History> {
        &self.history
    }
}
