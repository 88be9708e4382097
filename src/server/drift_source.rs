//! Tells what differs between this process and what is on disk.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::disk_watch::DiskState;
use super::runtime_overrides::RuntimeOverrides;
use crate::admin::{Drift, LoadedConfig, OperatorChange, OperatorChangeKind};
use crate::cluster::Cluster;
use crate::logging;
use crate::pool::{HostState, Member, Pool};
use crate::proxy::ActiveConfig;

/// The parts of the process that drift is read from.
#[derive(Debug, Clone)]
pub(super) struct DriftSource {
    pub(super) loaded_config: Arc<ArcSwap<LoadedConfig>>,
    pub(super) active: Arc<ArcSwap<ActiveConfig>>,
    pub(super) overrides: Arc<ArcSwap<RuntimeOverrides>>,
    pub(super) disk: Arc<ArcSwap<DiskState>>,
    /// `None`: the process is alone.
    pub(super) cluster: Option<Cluster>,
}

impl DriftSource {
    /// What differs now. The files were looked at some seconds ago.
    pub(super) fn drift(&self) -> Drift {
        let loaded_config = self.loaded_config.load();
        let disk = self.disk.load();
        let mut operator_changes = self.overrides.load().differences(&loaded_config.config);
        let active = self.active.load();
        operator_changes.extend(active.pools.iter().flat_map(|pool| drains(pool)));
        if let Some(cluster) = &self.cluster {
            let view = cluster.view();
            for change in &mut operator_changes {
                let pool = change.pool.as_ref().and_then(|pool| view.changes.get(pool));
                change.member = pool.map(|shared| shared.changes.by.clone());
            }
        }
        operator_changes.extend(log_level());
        Drift {
            operator_changes,
            file: disk.file_state(&loaded_config),
            binary: disk.binary,
        }
    }
}

/// The hosts of a pool that are drained. A file has no drains.
fn drains(pool: &Pool) -> impl Iterator<Item = OperatorChange> {
    let drained = pool.members().iter();
    let drained = drained.filter(|member| Member::is_drained(member));
    drained.map(|member| {
        let status = pool.host_status(member);
        OperatorChange {
            kind: OperatorChangeKind::Drained,
            pool: Some(pool.name().to_owned()),
            text: format!("host {} of pool {} is drained", status.id, pool.name()),
            // The state of a host that is down has begun at another time.
            at: (status.state == HostState::Draining).then_some(status.since),
            host: Some(status.id),
            member: None,
        }
    })
}

fn log_level() -> Option<OperatorChange> {
    let level = logging::differing_level()?;
    Some(OperatorChange {
        kind: OperatorChangeKind::LogLevel,
        pool: None,
        host: None,
        text: format!("the level of the log is {level}"),
        at: None,
        member: None,
    })
}
