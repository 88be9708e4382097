//! The state that the services of a server share.

use std::collections::BTreeMap;
use std::path::Path;
use std::process;
use std::sync::Arc;

use arc_swap::ArcSwap;
use log::{info, warn};

use super::StartError;
use super::acme_service::SharedAcme;
use super::change_lock::ChangeLocks;
use super::cluster_shares::{limit_shares, with_shares};
use super::disk_watch::{DiskState, DiskWatch, RunningBinary};
use super::drift_source::DriftSource;
use super::edge::{connection_capacity, raise_descriptors};
use super::handover::{ExpectedProbes, HandoverState, Successor};
use super::keepalive_pool_size::keepalive_pool_size;
use super::lifecycle::Lifecycle;
use super::reloader::{ReloaderCommands, ReloaderHandle};
use super::request_observers::RequestObservers;
use super::runtime_overrides::RuntimeOverrides;
use super::tls::TicketKeys;
use crate::admin::LoadedConfig;
use crate::cluster::{Cluster, MemberRecord};
use crate::config::Config;
use crate::discovery::{Discovery, with_members};
use crate::event_log::EventLog;
use crate::pool::HostRegistry;
use crate::proxy::{ActiveConfig, TrafficState};
use crate::timestamp::Timestamp;

/// What more than one service reads or changes. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct SharedState {
    pub(super) active: Arc<ArcSwap<ActiveConfig>>,
    pub(super) overrides: Arc<ArcSwap<RuntimeOverrides>>,
    pub(super) loaded_config: Arc<ArcSwap<LoadedConfig>>,
    pub(super) disk: Arc<ArcSwap<DiskState>>,
    pub(super) traffic: Arc<TrafficState>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) change_locks: ChangeLocks,
    pub(super) probes: Arc<ExpectedProbes>,
    pub(super) event_log: Arc<EventLog>,
    pub(super) observers: RequestObservers,
    pub(super) reloads: ReloaderHandle,
    pub(super) acme: SharedAcme,
    pub(super) discovery: Discovery,
    /// `None`: the process is alone.
    pub(super) cluster: Option<Cluster>,
    /// The keys of session tickets without a secret in the file.
    pub(super) ticket_keys: Arc<TicketKeys>,
}

/// The shared state, and what only the start needs.
pub(super) struct InitialState {
    pub(super) shared: SharedState,
    /// The configuration in effect: the file's, with the overrides of a predecessor applied.
    pub(super) config: Config,
    /// The file's configuration, without overrides.
    pub(super) file_config: Config,
    /// The file's configuration with the hosts that sources have told.
    pub(super) found_config: Config,
    pub(super) host_registry: HostRegistry,
    pub(super) reload_commands: ReloaderCommands,
    /// How many idle connections to hosts are kept.
    pub(super) idle: u64,
    /// The largest number of client connections that the descriptors allow.
    pub(super) connection_capacity: u64,
}

impl SharedState {
    /// Tells what differs from the file and the binary on disk.
    pub(super) fn drift_source(&self) -> DriftSource {
        DriftSource {
            loaded_config: Arc::clone(&self.loaded_config),
            active: Arc::clone(&self.active),
            overrides: Arc::clone(&self.overrides),
            disk: Arc::clone(&self.disk),
            cluster: self.cluster.clone(),
        }
    }

    /// Looks at the file and the binary on disk.
    pub(super) fn disk_watch(&self, file: Option<&Path>, binary: RunningBinary) -> DiskWatch {
        DiskWatch {
            file: file.map(Path::to_owned),
            binary,
            loaded_config: Arc::clone(&self.loaded_config),
            state: Arc::clone(&self.disk),
        }
    }
}

impl InitialState {
    /// Builds the pools and observers of `file_config`, which was read from `file`, and restores the state of a
    /// predecessor.
    ///
    /// # Errors
    /// A pool cannot be built, or an observer cannot be started.
    pub(super) fn build(
        file_config: Config,
        file: Option<&Path>,
        successor: Option<&Successor>,
    ) -> Result<Self, StartError> {
        let event_log = Arc::new(EventLog::default());
        let handover_state = successor.map(Successor::handover_state);
        let inherited = handover_state.map(|state| state.ticket_keys.as_slice());
        let mut overrides =
            handover_state.map_or_else(RuntimeOverrides::default, |state| state.overrides.clone());
        let saved = handover_state.map_or(&[][..], |state| &state.sources);
        let discovery = Discovery::new(&file_config, saved);
        let found_config = first_hosts(&file_config, &discovery, handover_state)?;
        let cluster = cluster(&file_config)?;
        let members = cluster.as_ref().map_or(1, Cluster::members);
        if let Some(cluster) = &cluster {
            for (pool, shared) in &cluster.view().changes {
                if let Err(reason) = overrides.import_pool(pool, &shared.changes.overrides) {
                    warn!("cluster: the changes of pool {pool} cannot be read: {reason}");
                }
            }
        }
        let (config, dropped) = overrides.apply_to(&found_config);
        if let Some(cluster) = &cluster {
            cluster.show_limits(limit_shares(&found_config, members));
        }
        let config = with_shares(config, members);
        dropped.iter().for_each(|line| info!("{line}"));
        let mut host_registry = HostRegistry::with_event_log(Arc::clone(&event_log));
        host_registry.stretch_checks(members);
        let mut active =
            ActiveConfig::new(&config, &mut host_registry).map_err(StartError::Pool)?;
        let observers = RequestObservers::default();
        active.observers = observers
            .build(&config, &active, None)
            .map_err(StartError::Files)?;
        for state in handover_state.iter().flat_map(|state| &state.pools) {
            let mut pools = active.pools.iter();
            if let Some(pool) = pools.find(|pool| pool.name() == state.name) {
                pool.restore(state);
            }
        }
        let descriptors = raise_descriptors();
        let idle = keepalive_pool_size(&config, descriptors);
        let connection_capacity = connection_capacity(descriptors, idle);
        let traffic = Arc::new(TrafficState::with_limit(connection_capacity));
        let (reloads, reload_commands) = ReloaderHandle::channel();
        let shared = SharedState {
            acme: SharedAcme::new(&config),
            active: Arc::new(ArcSwap::from_pointee(active)),
            overrides: Arc::new(ArcSwap::from_pointee(overrides)),
            loaded_config: Arc::new(ArcSwap::from_pointee(LoadedConfig {
                config: config.clone(),
                file: file.map(Path::to_owned),
                loaded: Timestamp::now(),
                refused_certificates: BTreeMap::new(),
            })),
            disk: Arc::default(),
            lifecycle: Arc::new(Lifecycle::new(Arc::clone(&traffic))),
            traffic,
            change_locks: ChangeLocks::default(),
            probes: Arc::default(),
            event_log,
            observers,
            reloads,
            discovery,
            cluster,
            ticket_keys: Arc::new(TicketKeys::random(inherited.unwrap_or_default())),
        };
        Ok(InitialState {
            shared,
            config,
            file_config,
            found_config,
            host_registry,
            reload_commands,
            idle,
            connection_capacity,
        })
    }
}

/// The cluster of `config`, with what its members share, if etcd can be asked.
fn cluster(config: &Config) -> Result<Option<Cluster>, StartError> {
    let Some(cluster) = &config.cluster else {
        return Ok(None);
    };
    let record = MemberRecord {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: process::id(),
        config: config.digest.clone(),
        started: Timestamp::now(),
    };
    let directory = config.discovery.state_directory.as_deref();
    let cluster = Cluster::new(cluster, directory, &record);
    let cluster = cluster.map_err(|error| StartError::Files(format!("cluster: {error}")))?;
    cluster.read_once();
    Ok(Some(cluster))
}

/// Asks the sources of `file_config` once, and puts what they tell into it.
///
/// # Errors
/// There are no hosts where there have to be some.
fn first_hosts(
    file_config: &Config,
    discovery: &Discovery,
    predecessor: Option<&HandoverState>,
) -> Result<Config, StartError> {
    let asked = discovery.ask_once();
    asked
        .map_err(|error| StartError::Files(format!("sources of hosts cannot be asked: {error}")))?;
    let found_config = with_members(file_config, discovery.table(), None, |_, _| false);
    let had_hosts = |name: &str| {
        let mut pools = predecessor.into_iter().flat_map(|state| &state.pools);
        pools.any(|pool| pool.name == name && pool.has_hosts())
    };
    let missing = discovery.missing(&found_config, had_hosts);
    missing.map_err(StartError::Discovery)?;
    Ok(found_config)
}
