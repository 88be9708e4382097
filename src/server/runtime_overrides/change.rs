//! Records the changes of operators.

use super::{
    AddedHost, HostSettings, MaintenanceOverride, PoolOverrides, RemovedHost, RuntimeOverrides,
    WeightOverride,
};
use crate::admin::{ChangeError, MaintenanceSettings, PoolChange};
use crate::config::{self, Host};
use crate::event_log::EventKind;
use crate::pool::{Member, Pool};
use crate::timestamp::Timestamp;
use ballast_balancer::HostId;

/// An applied change, for the event log.
#[derive(Debug)]
pub(in crate::server) struct ChangeEvent {
    pub(in crate::server) kind: EventKind,
    /// `None`: the change is to the pool as a whole.
    pub(in crate::server) host: Option<HostId>,
    pub(in crate::server) text: String,
}

impl ChangeEvent {
    fn new(kind: EventKind, host: &HostId, text: String) -> Self {
        let host = Some(host.clone());
        ChangeEvent { kind, host, text }
    }

    fn of_pool(kind: EventKind, text: String) -> Self {
        let host = None;
        ChangeEvent { kind, host, text }
    }
}

impl RuntimeOverrides {
    /// Records an operator's change to the pool that is `file` in the file and runs as `pool`.
    ///
    /// # Errors
    /// The change is impossible, or would leave the pool without a usable host.
    pub(in crate::server) fn apply_change(
        &mut self,
        file: &config::Pool,
        pool: &Pool,
        change: PoolChange,
    ) -> Result<ChangeEvent, ChangeError> {
        match change {
            PoolChange::Add(host) => {
                if let Some(member) = pool.members().iter().find(|&member| is_same(member, &host)) {
                    let (pool, id) = (pool.name(), member.host().id());
                    let reason = format!("the pool {pool} has a host `{id}` already");
                    return Err(ChangeError::Conflict(reason));
                }
                let text = format!("was added by an operator, weight {}", host.weight);
                let event = ChangeEvent::new(EventKind::Added, &host.id, text);
                self.add(file, host)?;
                Ok(event)
            }
            PoolChange::Remove { host, force } => {
                let member = find_member(pool, &host)?;
                if member.is_usable() && pool.usable() == 1 && !force {
                    let pool = pool.name();
                    return Err(ChangeError::Conflict(format!(
                        "`{host}` is the last usable host of the pool {pool}; to remove it anyway, use --force (in the API: force=true)"
                    )));
                }
                self.remove(file, &host);
                Ok(ChangeEvent::new(
                    EventKind::Removed,
                    &host,
                    "was removed by an operator".to_owned(),
                ))
            }
            PoolChange::Weigh { host, weight } => {
                let before = find_member(pool, &host)?.host().weight();
                self.set_weight(file, &host, weight);
                let text = format!("has weight {weight} now by an operator, had {before}");
                Ok(ChangeEvent::new(EventKind::Weighed, &host, text))
            }
            PoolChange::Drain { host, drained } => {
                find_member(pool, &host)?;
                let (kind, text) = match drained {
                    true => (EventKind::Drained, "is drained in all of the cluster"),
                    false => (
                        EventKind::Undrained,
                        "is drained nowhere in the cluster any more",
                    ),
                };
                Ok(ChangeEvent::new(kind, &host, text.to_owned()))
            }
            PoolChange::BeginMaintenance(settings) => {
                let begun = MaintenanceOverride::begin(file, settings);
                let maintenance = begun.settings(file).map_err(ChangeError::Invalid)?;
                self.pool_overrides(file).maintenance = Some(begun);
                let text = format!("maintenance by an operator: {}", maintenance.message);
                Ok(ChangeEvent::of_pool(EventKind::MaintenanceBegun, text))
            }
            PoolChange::EndMaintenance => {
                let in_file = file.maintenance.is_some();
                let ended = MaintenanceOverride {
                    in_file,
                    at: Some(Timestamp::now()),
                    ..MaintenanceOverride::default()
                };
                self.pool_overrides(file).maintenance = in_file.then_some(ended);
                let text = "an operator ended the maintenance".to_owned();
                Ok(ChangeEvent::of_pool(EventKind::MaintenanceEnded, text))
            }
        }
    }

    /// Adds `host` to the pool `file`, or restores a removed host of the file.
    fn add(&mut self, file: &config::Pool, host: Host) -> Result<(), ChangeError> {
        let pool_overrides = self.pool_overrides(file);
        let settings = HostSettings::new(&host);
        let Some(file_host) = file
            .members
            .iter()
            .find(|file_host| file_host.is_same(&host))
        else {
            pool_overrides.added.push(AddedHost {
                id: host.id.as_str().to_owned(),
                address: host.address.clone(),
                settings,
                at: Some(Timestamp::now()),
            });
            return Ok(());
        };
        let unchanged = HostSettings {
            weight: settings.weight,
            ..HostSettings::new(file_host)
        };
        if file_host.id != host.id || settings != unchanged {
            return Err(ChangeError::Conflict(format!(
                "`{}` is in the file and was removed by an operator; it can be added again only with the settings of the file, except its weight",
                file_host.id
            )));
        }
        pool_overrides
            .removed
            .retain(|removed| removed.id != host.id.as_str());
        pool_overrides.set_weight(file_host, host.weight);
        Ok(())
    }

    fn remove(&mut self, file: &config::Pool, id: &HostId) {
        let pool_overrides = self.pool_overrides(file);
        pool_overrides.added.retain(|added| added.id != id.as_str());
        pool_overrides
            .weighed
            .retain(|weighed| weighed.id != id.as_str());
        if let Some(file_host) = find_host(file, id) {
            pool_overrides.removed.push(RemovedHost {
                id: id.as_str().to_owned(),
                at: Timestamp::now(),
                settings: HostSettings::new(file_host),
            });
        }
    }

    fn set_weight(&mut self, file: &config::Pool, id: &HostId, weight: u32) {
        let pool_overrides = self.pool_overrides(file);
        match find_host(file, id) {
            Some(file_host) => pool_overrides.set_weight(file_host, weight),
            None => {
                let mut added = pool_overrides.added.iter_mut();
                if let Some(added) = added.find(|added| added.id == id.as_str()) {
                    added.settings.weight = weight;
                }
            }
        }
    }

    fn pool_overrides(&mut self, file: &config::Pool) -> &mut PoolOverrides {
        self.0.entry(file.name.clone()).or_default()
    }
}

impl PoolOverrides {
    fn set_weight(&mut self, file_host: &Host, weight: u32) {
        let id = file_host.id.as_str();
        self.weighed.retain(|weighed| weighed.id != id);
        if weight != file_host.weight {
            self.weighed.push(WeightOverride {
                id: id.to_owned(),
                weight,
                file_weight: file_host.weight,
                at: Some(Timestamp::now()),
            });
        }
    }
}

impl MaintenanceOverride {
    fn begin(file: &config::Pool, settings: MaintenanceSettings) -> Self {
        let MaintenanceSettings {
            message,
            retry_after,
            allow,
        } = settings;
        MaintenanceOverride {
            on: true,
            message,
            retry_after,
            allow,
            in_file: file.maintenance.is_some(),
            at: Some(Timestamp::now()),
        }
    }
}

fn find_host<'a>(pool: &'a config::Pool, id: &HostId) -> Option<&'a Host> {
    pool.members.iter().find(|host| host.id == *id)
}

/// The pool's host with this id.
fn find_member<'a>(pool: &'a Pool, id: &HostId) -> Result<&'a Member, ChangeError> {
    pool.member(id).ok_or_else(|| {
        let (pool, id) = (pool.name(), id.as_str().escape_debug());
        ChangeError::Unknown(format!("the pool {pool} does not have a host `{id}`"))
    })
}

/// Whether a host of a pool has the same address, in any spelling.
fn is_same(member: &Member, host: &Host) -> bool {
    let known = Host::at(member.host().id().as_str(), member.host().address().clone());
    known.is_ok_and(|known| known.is_same(host))
}
