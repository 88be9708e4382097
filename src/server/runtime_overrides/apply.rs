//! Applies the changes of operators to the configuration of the file.

use super::{AddedHost, HostSettings, MaintenanceOverride, PoolOverrides};
use crate::config::{self, Host, Maintenance};
use ballast_balancer::MAX_WEIGHT;

impl PoolOverrides {
    /// Applies the overrides to `pool`, and drops those that the file has superseded.
    pub(super) fn apply(&mut self, pool: &mut config::Pool, dropped: &mut Vec<String>) {
        let name = pool.name.clone();
        self.apply_maintenance(pool, dropped);
        let mut discard = |id: &str, what: &str| {
            dropped.push(format!(
                "pool {name}: host {id} was edited in the file; the operator's {what} no longer applies"
            ));
            false
        };
        self.weighed.retain(|weighed| {
            let mut hosts = pool.members.iter_mut();
            match hosts.find(|host| host.id.as_str() == weighed.id) {
                Some(host)
                    if host.weight == weighed.file_weight && weighed.weight <= MAX_WEIGHT =>
                {
                    host.weight = weighed.weight;
                    true
                }
                Some(_) => discard(&weighed.id, "weight"),
                None => false,
            }
        });
        self.removed.retain(|removed| {
            let mut hosts = pool.members.iter();
            match hosts.position(|host| host.id.as_str() == removed.id) {
                Some(index) if HostSettings::new(&pool.members[index]) == removed.settings => {
                    let host = pool.members.remove(index);
                    pool.removed.push((host, removed.at));
                    true
                }
                Some(_) => discard(&removed.id, "removal"),
                None => false,
            }
        });
        self.added.retain(|added| match added.host() {
            Some(host) if !pool.members.iter().any(|other| other.is_same(&host)) => {
                pool.members.push(host);
                true
            }
            _ => discard(&added.id, "addition"),
        });
    }

    fn apply_maintenance(&mut self, pool: &mut config::Pool, dropped: &mut Vec<String>) {
        let Some(change) = &self.maintenance else {
            return;
        };
        let settings = change.on.then(|| change.settings(pool)).transpose();
        match settings {
            Ok(settings) if change.in_file == pool.maintenance.is_some() => {
                pool.maintenance = settings;
            }
            _ => {
                dropped.push(format!(
                    "pool {}: maintenance was edited in the file; the operator's no longer applies",
                    pool.name
                ));
                self.maintenance = None;
            }
        }
    }
}

impl MaintenanceOverride {
    /// The settings for a pool that is `file` in the file.
    pub(super) fn settings(&self, file: &config::Pool) -> Result<Maintenance, String> {
        Maintenance::by_operator(
            file.maintenance.as_ref(),
            self.message.as_deref(),
            self.retry_after.as_deref(),
            &self.allow,
        )
    }
}

impl AddedHost {
    /// `None` if the state of another process is invalid here.
    fn host(&self) -> Option<Host> {
        let HostSettings {
            weight,
            backup,
            max_in_flight,
        } = self.settings;
        let host = Host::at(&self.id, self.address.clone()).ok()?;
        (weight <= MAX_WEIGHT).then_some(Host {
            weight,
            backup,
            max_in_flight,
            ..host
        })
    }
}
