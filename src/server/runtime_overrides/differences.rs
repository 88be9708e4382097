//! Which changes of operators are in effect.

use super::{PoolOverrides, RuntimeOverrides};
use crate::admin::{OperatorChange, OperatorChangeKind};
use crate::config::{Config, Host, Pool};
use crate::timestamp::Timestamp;

impl RuntimeOverrides {
    /// The changes that are in effect in `config`, in the order of its pools.
    pub(in crate::server) fn differences(&self, config: &Config) -> Vec<OperatorChange> {
        let pools = config.pools.iter();
        let pools = pools.filter_map(|pool| Some(self.0.get(&pool.name)?.differences(pool)));
        pools.flatten().collect()
    }
}

impl PoolOverrides {
    fn differences(&self, pool: &Pool) -> Vec<OperatorChange> {
        let name = &pool.name;
        let change = |kind, host: Option<&str>, text: String, at| OperatorChange {
            kind,
            pool: Some(name.clone()),
            host: host.map(str::to_owned),
            text,
            at,
            member: None,
        };
        let member = |id: &str| -> Option<&Host> {
            let mut members = pool.members.iter();
            members.find(|host| host.id.as_str() == id)
        };
        let maintenance = self.maintenance.as_ref().and_then(|change_of| {
            let (kind, text) = match (change_of.on, pool.maintenance.is_some()) {
                (true, true) => (
                    OperatorChangeKind::MaintenanceBegun,
                    format!("maintenance of pool {name} was begun"),
                ),
                (false, false) => (
                    OperatorChangeKind::MaintenanceEnded,
                    format!("maintenance of pool {name}, which the file has, was ended"),
                ),
                _ => return None,
            };
            Some(change(kind, None, text, change_of.at))
        });
        let added = self.added.iter().filter_map(|added| {
            let weight = member(&added.id)?.weight;
            let text = format!(
                "host {} was added to pool {name}, weight {weight}",
                added.id
            );
            Some(change(
                OperatorChangeKind::HostAdded,
                Some(&added.id),
                text,
                added.at,
            ))
        });
        let removed = self.removed.iter().filter_map(|removed| {
            let mut hosts = pool.removed.iter();
            hosts.find(|(host, _)| host.id.as_str() == removed.id)?;
            let text = format!("host {} was removed from pool {name}", removed.id);
            let at: Option<Timestamp> = Some(removed.at);
            Some(change(
                OperatorChangeKind::HostRemoved,
                Some(&removed.id),
                text,
                at,
            ))
        });
        let weighed = self.weighed.iter().filter_map(|weighed| {
            member(&weighed.id).filter(|host| host.weight == weighed.weight)?;
            let text = format!(
                "host {} of pool {name} has weight {}, {} in the file",
                weighed.id, weighed.weight, weighed.file_weight
            );
            Some(change(
                OperatorChangeKind::Weight,
                Some(&weighed.id),
                text,
                weighed.at,
            ))
        });
        let hosts = added.chain(removed).chain(weighed);
        maintenance.into_iter().chain(hosts).collect()
    }
}
