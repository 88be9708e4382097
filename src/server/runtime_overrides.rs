//! Changes by operators at run time, applied on top of the file.
//!
//! An edited file overrides an operator: a change survives reloads and handovers until the file's entry for that host
//! differs from the one at the time of the change; that of maintenance, until the file turns it on or off. Changes end
//! with the process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admin::{ChangeError, MaintenanceSettings, PoolChange};
use crate::config::{self, Config, Host, Maintenance};
use crate::event_log::EventKind;
use crate::pool::{Member, Pool};
use crate::timestamp::Timestamp;
use ballast_balancer::{HostAddress, HostId, MAX_WEIGHT};

/// The overrides of all pools, by pool name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct RuntimeOverrides(BTreeMap<String, PoolOverrides>);

/// The overrides of one pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct PoolOverrides {
    added: Vec<AddedHost>,
    removed: Vec<RemovedHost>,
    weighed: Vec<WeightOverride>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maintenance: Option<MaintenanceOverride>,
}

/// The settings of a host in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct HostSettings {
    weight: u32,
    backup: bool,
    max_in_flight: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AddedHost {
    id: String,
    /// The resolved address of the name in `id`.
    address: HostAddress,
    #[serde(rename = "words")]
    settings: HostSettings,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RemovedHost {
    id: String,
    at: Timestamp,
    /// The file's setting at the time of the change.
    #[serde(rename = "words")]
    settings: HostSettings,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WeightOverride {
    id: String,
    weight: u32,
    /// The file's setting at the time of the change.
    #[serde(rename = "said")]
    file_weight: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct MaintenanceOverride {
    on: bool,
    message: Option<String>,
    retry_after: Option<String>,
    allow: Vec<String>,
    /// Whether the file had it on at the time of the change.
    in_file: bool,
}

/// An applied change, for the event log.
#[derive(Debug)]
pub(super) struct ChangeEvent {
    pub(super) kind: EventKind,
    /// `None`: the change is to the pool as a whole.
    pub(super) host: Option<HostId>,
    pub(super) text: String,
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
    /// The file's configuration with the overrides applied. Overrides that the file has superseded are dropped, with
    /// one line for each.
    pub(super) fn apply_to(&mut self, file: &Config) -> (Config, Vec<String>) {
        let mut config = file.clone();
        let mut dropped = Vec::new();
        self.0.retain(|name, pool_overrides| {
            let mut pools = config.pools.iter_mut();
            let Some(pool) = pools.find(|pool| pool.name == *name) else {
                dropped.push(format!(
                    "pool {name} was removed, and the operator's changes to it"
                ));
                return false;
            };
            pool_overrides.apply(pool, &mut dropped);
            *pool_overrides != PoolOverrides::default()
        });
        (config, dropped)
    }

    /// Records an operator's change to the pool that is `file` in the file and runs as `pool`.
    ///
    /// # Errors
    /// The change is impossible, or would leave the pool without a usable host.
    pub(super) fn apply_change(
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
                    ..MaintenanceOverride::default()
                };
                self.pool_overrides(file).maintenance = in_file.then_some(ended);
                let text = "an operator ended the maintenance".to_owned();
                Ok(ChangeEvent::of_pool(EventKind::MaintenanceEnded, text))
            }
        }
    }

    /// The overrides of a pool in the form in which processes exchange them.
    pub(super) fn export_pool(&self, pool: &str) -> Value {
        let overrides = self.0.get(pool).cloned().unwrap_or_default();
        // There are no maps with other keys than texts in it.
        serde_json::to_value(overrides).unwrap_or(Value::Null)
    }

    /// Replaces the overrides of a pool by those of another process.
    ///
    /// # Errors
    /// They are not overrides.
    pub(super) fn import_pool(&mut self, pool: &str, overrides: &Value) -> Result<(), String> {
        let overrides = PoolOverrides::deserialize(overrides);
        let overrides = overrides.map_err(|error| error.to_string())?;
        match overrides == PoolOverrides::default() {
            true => self.0.remove(pool),
            false => self.0.insert(pool.to_owned(), overrides),
        };
        Ok(())
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
    /// Applies the overrides to `pool`, and drops those that the file has superseded.
    fn apply(&mut self, pool: &mut config::Pool, dropped: &mut Vec<String>) {
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

    fn set_weight(&mut self, file_host: &Host, weight: u32) {
        let id = file_host.id.as_str();
        self.weighed.retain(|weighed| weighed.id != id);
        if weight != file_host.weight {
            self.weighed.push(WeightOverride {
                id: id.to_owned(),
                weight,
                file_weight: file_host.weight,
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
        }
    }

    /// The settings for a pool that is `file` in the file.
    fn settings(&self, file: &config::Pool) -> Result<Maintenance, String> {
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

impl HostSettings {
    fn new(host: &Host) -> Self {
        HostSettings {
            weight: host.weight,
            backup: host.backup,
            max_in_flight: host.max_in_flight,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two versions of the binary exchange this text at a handover.
    #[test]
    fn the_wire_format_keeps_its_names() {
        let text = r#"{"web":{"added":[{"id":"a:1","address":"127.0.0.1:1","words":{"weight":1,"backup":false,"max_in_flight":null}}],"removed":[],"weighed":[{"id":"b:2","weight":5,"said":1}]}}"#;
        let overrides: RuntimeOverrides = serde_json::from_str(text).expect("the format");
        assert_eq!(serde_json::to_string(&overrides).expect("JSON"), text);
        let text = r#"{"web":{"added":[],"removed":[],"weighed":[],"maintenance":{"on":true,"message":"soon","retry_after":null,"allow":["::1"],"in_file":false}}}"#;
        let overrides: RuntimeOverrides = serde_json::from_str(text).expect("the format");
        assert_eq!(serde_json::to_string(&overrides).expect("JSON"), text);
    }
}
