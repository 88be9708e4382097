//! The process as its metrics see it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::edge::Connections;
use super::observers::Observers;
use crate::admin::Current;
use crate::metrics::{Source, State};
use crate::pool::Pool;
use crate::proxy::{Site, Traffic};

/// What metrics are read from.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) current: Arc<ArcSwap<Current>>,
    pub(super) site: Arc<ArcSwap<Site>>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) connections: Arc<Connections>,
    pub(super) observers: Observers,
}

impl Source for Measured {
    fn pools(&self) -> Vec<Arc<Pool>> {
        self.site.load().pools.clone()
    }

    fn state(&self) -> State {
        let current = self.current.load();
        State {
            in_flight: self.traffic.present(),
            connections: self.connections.open(),
            worker_connections: self.connections.of_workers(),
            panics: self.traffic.panics(),
            lost_lines: self.observers.logs.lost(),
            traced: self.observers.traced.exported(),
            untraced: self.observers.traced.lost(),
            config_digest: current.config.digest.clone(),
            config_loaded: current.loaded,
            certificate_expiries: current.config.certificate_expiries(),
            host_metrics: current.config.admin.metrics.hosts,
        }
    }
}
