//! The process as the source of its metrics.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::drift_source::DriftSource;
use super::edge::Connections;
use super::request_observers::RequestObservers;
use crate::acme::AcmeStatus;
use crate::admin::{BinaryState, Drift, FileState, LoadedConfig};
use crate::cluster::Cluster;
use crate::config::{Config, Validity};
use crate::discovery::SourceTable;
use crate::metrics::{
    ClusterState, DriftState, HostSourceState, MetricsSource, OrderState, ProcessState,
};
use crate::pool::Pool;
use crate::proxy::{ActiveConfig, TrafficState};

/// The parts of the process that metrics are read from.
#[derive(Debug)]
pub(super) struct ServerMetricsSource {
    pub(super) loaded_config: Arc<ArcSwap<LoadedConfig>>,
    pub(super) active: Arc<ArcSwap<ActiveConfig>>,
    pub(super) traffic: Arc<TrafficState>,
    pub(super) connections: Arc<Connections>,
    pub(super) observers: RequestObservers,
    pub(super) acme: Arc<AcmeStatus>,
    pub(super) sources: Arc<SourceTable>,
    /// `None`: the process is alone.
    pub(super) cluster: Option<Cluster>,
    pub(super) drift: DriftSource,
}

impl MetricsSource for ServerMetricsSource {
    fn pools(&self) -> Vec<Arc<Pool>> {
        self.active.load().pools.clone()
    }

    fn state(&self) -> ProcessState {
        let loaded_config = self.loaded_config.load();
        ProcessState {
            in_flight: self.traffic.present(),
            connections: self.connections.open(),
            worker_connections: self.connections.of_workers(),
            panics: self.traffic.panics(),
            lost_lines: self.observers.logs.lost(),
            traced: self.observers.export_counts.exported(),
            untraced: self.observers.export_counts.lost(),
            config_digest: loaded_config.config.digest.clone(),
            config_loaded: loaded_config.loaded,
            handshakes: self.connections.handshakes(),
            certificates: certificates(&loaded_config.config),
            revocation_lists: revocation_lists(&loaded_config.config),
            refused_certificates: loaded_config.refused_certificates.len(),
            orders: orders(&self.acme),
            sources: sources(&self.sources),
            cluster: self.cluster.as_ref().map(|cluster| ClusterState {
                members: cluster.members(),
                is_connected: cluster.is_connected(),
            }),
            drift: drift(&self.drift.drift()),
            host_metrics: loaded_config.config.admin.metrics.hosts,
        }
    }
}

/// The certificates of listeners and those that hosts get, each file once.
fn certificates(config: &Config) -> Vec<(PathBuf, Validity)> {
    let served = config.certificates().into_iter();
    let served =
        served.map(|certificate| (certificate.files.chain_file.clone(), certificate.validity));
    let mut certificates = BTreeMap::from_iter(served);
    for tls in config.pools.iter().filter_map(|pool| pool.tls.as_ref()) {
        if let Some(shown) = &tls.certificate {
            let validity = Validity::of(&shown.chain);
            certificates.insert(shown.file.clone(), validity);
        }
    }
    certificates.into_iter().collect()
}

/// When the first list of each file of revocation lists expires.
fn revocation_lists(config: &Config) -> Vec<(PathBuf, i64)> {
    let listeners = config.listeners.iter();
    let lists = listeners.filter_map(|listener| {
        let clients = listener.tls.as_ref()?.client_certificates.as_ref()?;
        let crl = clients.crl.as_ref()?;
        Some((crl.file.clone(), crl.expiry()?))
    });
    BTreeMap::from_iter(lists).into_iter().collect()
}

fn orders(acme: &AcmeStatus) -> Vec<OrderState> {
    let certificates = acme.certificates();
    let orders = certificates.iter().map(|certificate| OrderState {
        domain: certificate.domain.clone(),
        renewal: certificate.renewal,
        failures: certificate.failures,
    });
    orders.collect()
}

fn sources(table: &SourceTable) -> Vec<HostSourceState> {
    let sources = table
        .all()
        .into_iter()
        .map(|(source, state)| HostSourceState {
            source: source.to_string(),
            hosts: state.hosts.len(),
            age: state.age(),
            is_stale: state.is_stale,
            good_answers: state.good_answers,
            failed_answers: state.bad_answers,
        });
    sources.collect()
}

fn drift(drift: &Drift) -> DriftState {
    DriftState {
        operator_changes: drift.operator_changes.len(),
        is_file_edited: drift.file != FileState::Loaded,
        is_binary_replaced: drift.binary != BinaryState::Running,
    }
}
