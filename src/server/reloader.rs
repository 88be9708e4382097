//! The in-place reload: the running process applies the changed file without closing a connection.
//!
//! Unchanged parts are kept: pools with the state of their health checks, hosts with their statistics, and all
//! connections. Everything that can fail comes first; then one swap replaces the whole [`ActiveConfig`].

mod certificates;
mod cluster_changes;
mod commands;
mod found_hosts;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use log::{info, warn};
use tokio::task::spawn_blocking;

use crate::admin::{ChangeError, LoadedConfig, PoolChange};
use crate::cluster::{Cluster, ClusterSecret};
use crate::config::{Config, ListenerAddress};
use crate::discovery::Discovery;
use crate::event_log::{EventKind, EventLog};
use crate::health::Monitor;
use crate::metrics::ReloadOutcome;
use crate::pool::{HostRegistry, Pool};
use crate::proxy::ActiveConfig;
use crate::timestamp::Timestamp;

pub(super) use commands::{ReloaderCommand, ReloaderCommands, ReloaderHandle};

use super::acme_service::SharedAcme;
use super::certificate_watch::CertificateWatch;
use super::cluster_shares::{limit_shares, with_shares};
use super::config_diff::ConfigDiff;
use super::config_summary;
use super::reload_plan::{FirstRound, ReloadPlan, find_pool, run_contained, start_checks};
use super::reload_preview::ReloadPreviewer;
use super::request_observers::RequestObservers;
use super::runtime_overrides::RuntimeOverrides;
use super::tls::{TicketKeys, TlsState};

/// Why a reload failed. Nothing of it was applied.
#[derive(Debug)]
pub(super) enum ReloadError {
    /// The file is invalid; one line for each problem.
    Invalid(String),
    /// These changes need a new process.
    NeedsNewProcess(ConfigDiff),
    /// A panic or another bug of ballast.
    Internal(String),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReloadError::Invalid(reason) => f.write_str(reason),
            ReloadError::Internal(text) => write!(f, "the reload failed, a bug in ballast: {text}"),
            ReloadError::NeedsNewProcess(changes) => {
                write!(
                    f,
                    "needs a new process: {}",
                    changes.in_new_process.join(", ")
                )
            }
        }
    }
}

/// The outcome of a reload: one line for each change.
pub(super) type ReloaderResult = Result<Vec<String>, ReloadError>;

/// Applies the file and the operators' changes. Only the reloader replaces the active configuration, and it owns all
/// health checks.
#[derive(Debug)]
pub(super) struct Reloader {
    /// `None`: there is no file to reload.
    pub(super) file: Option<PathBuf>,
    /// The file's content at the last reload, without overrides.
    pub(super) file_config: Config,
    /// The same with the hosts that sources have told.
    pub(super) found_config: Config,
    pub(super) discovery: Discovery,
    /// `None`: the process is alone.
    pub(super) cluster: Option<Cluster>,
    /// The keys of session tickets without a secret in the file.
    pub(super) ticket_keys: Arc<TicketKeys>,
    /// What these keys are derived from, if that is shared.
    pub(super) cluster_secret: Option<ClusterSecret>,
    /// The configuration in effect: the file's with what sources have told, and the runtime overrides applied.
    pub(super) config: Config,
    pub(super) overrides: Arc<ArcSwap<RuntimeOverrides>>,
    pub(super) host_registry: HostRegistry,
    pub(super) active: Arc<ArcSwap<ActiveConfig>>,
    /// The configuration in effect, for all other readers.
    pub(super) loaded_config: Arc<ArcSwap<LoadedConfig>>,
    /// What may change about TLS, by the address of the listener.
    pub(super) tls: Vec<(ListenerAddress, Arc<TlsState>)>,
    pub(super) certificate_watch: CertificateWatch,
    pub(super) acme: SharedAcme,
    pub(super) event_log: Arc<EventLog>,
    /// The health checks of each active pool.
    pub(super) checks: Vec<(Arc<Pool>, Monitor)>,
    pub(super) observers: RequestObservers,
    /// Gets the file's content after each reload.
    pub(super) previewer: ReloadPreviewer,
}

impl Reloader {
    /// Starts the health checks of all hosts; returns after the first round.
    pub(super) async fn start(&mut self) {
        self.apply_shared();
        self.checks = start_checks(&self.active.load().pools, FirstRound::Awaited).await;
    }

    /// Executes commands and takes in changed certificates and hosts until all senders are gone.
    pub(super) async fn serve(&mut self, commands: &mut ReloaderCommands) {
        let sources = Arc::clone(self.discovery.table());
        let cluster = self.cluster.clone();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.execute(command).await,
                    None => return,
                },
                scan = self.certificate_watch.next_scan(&self.config, &self.acme.renewed) => self.take_certificates(scan).await,
                () = cluster_changes::due(cluster.as_ref()) => self.take_cluster().await,
                () = found_hosts::due(&sources, &self.found_config) => self.take_found_hosts().await,
            }
        }
    }

    async fn execute(&mut self, command: ReloaderCommand) {
        // The caller may have stopped waiting.
        match command {
            ReloaderCommand::Reload(answer) => {
                let outcome = self.reload().await;
                self.observers.counts.count_reload(metric_outcome(&outcome));
                drop(answer.send(outcome));
            }
            ReloaderCommand::Change(pool, change, answer) => {
                drop(answer.send(self.change(&pool, *change).await));
            }
            ReloaderCommand::Adopt(overrides, answer) => {
                drop(answer.send(self.adopt_overrides(overrides).await))
            }
        }
    }

    /// Shows the configuration in effect to all other readers.
    fn publish(&self, loaded: Timestamp) {
        if let Some(cluster) = &self.cluster {
            cluster.show_limits(limit_shares(&self.found_config, cluster.members()));
        }
        self.loaded_config.store(Arc::new(LoadedConfig {
            config: self.config.clone(),
            file: self.file.clone(),
            loaded,
            refused_certificates: self.certificate_watch.refused().clone(),
        }));
    }

    async fn reload(&mut self) -> ReloaderResult {
        let file_config = self.read_file().await?;
        let mut changes = ConfigDiff::between(&self.file_config, &file_config);
        if !changes.in_new_process.is_empty() {
            return Err(ReloadError::NeedsNewProcess(changes));
        }
        let mut overrides = RuntimeOverrides::clone(&self.overrides.load());
        let found = self.find_hosts_of(&file_config).await;
        let (dropped, activated) = match found {
            Ok(found_config) => {
                let (config, dropped) = self.effective(&found_config, &mut overrides);
                let activated = self.activate(config, Timestamp::now(), FirstRound::Awaited);
                let activated = activated.await.map(|()| found_config);
                (dropped, activated)
            }
            Err(refusal) => (Vec::new(), Err(refusal)),
        };
        match activated {
            Ok(found_config) => self.found_config = found_config,
            Err(refusal) => {
                self.discovery.configure(&self.file_config);
                return Err(refusal);
            }
        }
        self.discovery.configure(&file_config);
        file_config
            .warnings()
            .iter()
            .for_each(|line| warn!("{line}"));
        self.file_config = file_config;
        self.update_tls();
        self.certificate_watch.restart();
        self.acme.configure(&self.file_config);
        self.publish(self.loaded_config.load().loaded);
        self.previewer.set_file_config(&self.file_config);
        self.overrides.store(Arc::new(overrides));
        changes.in_place.extend(dropped);
        let version = env!("CARGO_PKG_VERSION");
        let pid = std::process::id();
        let now = config_summary::summarize(&self.file_config, self.file.as_deref());
        info!("ballast {version}, pid {pid}: now running with {now}");
        Ok(changes.into_lines())
    }

    /// Applies an operator's change, in the same way as a reload.
    async fn change(&mut self, pool: &str, change: PoolChange) -> Result<(), ChangeError> {
        let file = self
            .found_config
            .pools
            .iter()
            .find(|found| found.name == pool);
        let active = self.active.load_full();
        let (Some(file), Some(now)) = (file, find_pool(&active, pool)) else {
            let pool = pool.escape_debug();
            return Err(ChangeError::Unknown(format!("there is no pool `{pool}`")));
        };
        let mut overrides = RuntimeOverrides::clone(&self.overrides.load());
        let drain = match &change {
            PoolChange::Drain { host, drained } => Some((host.clone(), *drained)),
            _ => None,
        };
        // What is shared is compared with this: a change that comes meanwhile is a conflict.
        let shared = self.shared_changes(pool);
        if let Some(shared) = &shared {
            let imported = overrides.import_pool(pool, &shared.changes.overrides);
            imported.map_err(ChangeError::Conflict)?;
        }
        let event = overrides.apply_change(file, now, change)?;
        self.share_change(now, &overrides, shared, drain).await?;
        let (config, _) = self.effective(&self.found_config, &mut overrides);
        let loaded = self.loaded_config.load().loaded;
        let activated = self.activate(config, loaded, FirstRound::Awaited).await;
        activated.map_err(|refusal| ChangeError::Conflict(refusal.to_string()))?;
        self.overrides.store(Arc::new(overrides));
        let pool = find_pool(&self.active.load(), pool).cloned();
        if let Some(pool) = pool {
            pool.log_event(event.kind, event.host.as_ref(), &event.text);
        }
        Ok(())
    }

    /// Takes over the runtime overrides of the predecessor.
    async fn adopt_overrides(
        &mut self,
        mut overrides: RuntimeOverrides,
    ) -> Result<(), ReloadError> {
        let (config, _) = self.effective(&self.found_config, &mut overrides);
        if overrides == **self.overrides.load() {
            return Ok(());
        }
        let loaded = self.loaded_config.load().loaded;
        self.activate(config, loaded, FirstRound::Awaited).await?;
        self.overrides.store(Arc::new(overrides));
        Ok(())
    }

    /// What takes effect of `found_config` with `overrides`. Overrides that the file has superseded are dropped, with one line
    /// for each.
    fn effective(
        &self,
        found_config: &Config,
        overrides: &mut RuntimeOverrides,
    ) -> (Config, Vec<String>) {
        let (config, dropped) = overrides.apply_to(found_config);
        let members = self.cluster.as_ref().map_or(1, Cluster::members);
        (with_shares(config, members), dropped)
    }

    /// Replaces the active configuration by `config`. On an error nothing has changed.
    async fn activate(
        &mut self,
        config: Config,
        loaded: Timestamp,
        first_round: FirstRound,
    ) -> Result<(), ReloadError> {
        let before = self.active.load_full();
        let plan = ReloadPlan::build(
            config,
            self.config.clone(),
            self.host_registry.clone(),
            Arc::clone(&before),
            self.observers.clone(),
            first_round,
        );
        let ReloadPlan {
            config,
            host_registry,
            active,
            mut checks,
        } = run_contained(plan).await??;
        // Nothing fails from here on.
        for (pool, file) in active.pools.iter().zip(&config.pools) {
            pool.set_maintenance(file.maintenance.as_ref());
        }
        for (pool, _) in &checks {
            if let Some(old) = find_pool(&before, pool.name()) {
                pool.resume(&old.state());
            }
        }
        self.checks
            .retain(|(pool, _)| active.pools.iter().any(|now| Arc::ptr_eq(now, pool)));
        self.checks.append(&mut checks);
        self.active.store(Arc::new(active));
        self.apply_shared();
        self.host_registry = host_registry;
        self.config = config;
        self.publish(loaded);
        Ok(())
    }

    async fn read_file(&self) -> Result<Config, ReloadError> {
        read_file(self.file.clone()).await
    }
}

/// Reads the file.
pub(super) async fn read_file(file: Option<PathBuf>) -> Result<Config, ReloadError> {
    let Some(file) = file else {
        return Err(ReloadError::Invalid(
            "there is no file to reload".to_owned(),
        ));
    };
    match spawn_blocking(move || Config::load(&file)).await {
        Ok(Ok(config)) => Ok(config),
        Ok(Err(errors)) => Err(ReloadError::Invalid(errors.to_string())),
        Err(error) => Err(ReloadError::Internal(error.to_string())),
    }
}

/// Logs the outcome of an in-place reload as an event.
pub(super) fn note_outcome(event_log: &EventLog, outcome: &ReloaderResult) {
    let (kind, text) = match outcome {
        Ok(changes) if changes.is_empty() => (
            EventKind::Reloaded,
            "reloaded in place: nothing changed".to_owned(),
        ),
        Ok(changes) => (
            EventKind::Reloaded,
            format!("reloaded in place: {}", changes.join("; ")),
        ),
        Err(refusal) => (
            EventKind::ReloadFailed,
            format!("not reloaded, everything stays as it is: {refusal}"),
        ),
    };
    event_log.log_event(kind, None, None, text);
}

/// The metric's label for an outcome.
fn metric_outcome(outcome: &ReloaderResult) -> ReloadOutcome {
    match outcome {
        Ok(_) => ReloadOutcome::InPlace,
        Err(ReloadError::NeedsNewProcess(_)) => ReloadOutcome::NeedsProcess,
        Err(ReloadError::Invalid(_) | ReloadError::Internal(_)) => ReloadOutcome::InPlaceFailed,
    }
}
