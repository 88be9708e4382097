//! Changes by operators at run time, applied on top of the file.
//!
//! An edited file overrides an operator: a change survives reloads and handovers until the file's entry for that host
//! differs from the one at the time of the change; that of maintenance, until the file turns it on or off. Changes end
//! with the process.

mod apply;
mod change;
mod differences;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Config, Host};
use crate::timestamp::Timestamp;
use ballast_balancer::HostAddress;

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
    /// `None`: an earlier version has made the change. The same holds below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
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
        let text = r#"{"web":{"added":[],"removed":[],"weighed":[{"id":"b:2","weight":5,"said":1,"at":"2026-01-02T03:04:05.000Z"}]}}"#;
        let overrides: RuntimeOverrides = serde_json::from_str(text).expect("the format");
        assert_eq!(serde_json::to_string(&overrides).expect("JSON"), text);
    }
}
