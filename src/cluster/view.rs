//! What the keys of a cluster say.

use std::collections::{BTreeMap, BTreeSet};

use log::warn;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::secret::ClusterSecret;
use crate::etcd::{KeyValue, PrefixSnapshot};
use crate::timestamp::Timestamp;

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// The version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The SHA-256 of its configuration.
    pub config: String,
    /// When it began.
    pub started: Timestamp,
}

/// A live member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMember {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    #[serde(flatten)]
    pub record: MemberRecord,
}

/// What operators have changed in a pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PoolChanges {
    /// Hosts added, removed and weighed, and maintenance, as the process keeps them.
    pub(crate) overrides: Value,
    /// The ids of the drained hosts.
    pub(crate) drained: BTreeSet<String>,
    /// The member that made the last change.
    pub(crate) by: String,
}

/// The same with the revision at which it was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SharedChanges {
    pub(crate) revision: i64,
    pub(crate) changes: PoolChanges,
}

/// All that the members share.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ClusterView {
    /// The live members, by name.
    pub(crate) members: Vec<ClusterMember>,
    /// By pool.
    pub(crate) changes: BTreeMap<String, SharedChanges>,
    /// What keys are derived from.
    pub(crate) secret: Option<ClusterSecret>,
}

/// The names of a cluster's keys.
#[derive(Debug, Clone)]
pub(super) struct KeyNames {
    prefix: String,
}

impl KeyNames {
    pub(super) fn new(prefix: &str, cluster: &str) -> Self {
        KeyNames {
            prefix: format!("{}/{cluster}/", prefix.trim_end_matches('/')),
        }
    }

    /// What all of them begin with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn member(&self, name: &str) -> String {
        format!("{}members/{name}", self.prefix)
    }

    pub(super) fn changes(&self, pool: &str) -> String {
        format!("{}changes/{pool}", self.prefix)
    }

    pub(super) fn secret(&self) -> String {
        format!("{}secret", self.prefix)
    }

    pub(super) fn lock(&self, name: &str) -> String {
        format!("{}locks/{name}", self.prefix)
    }

    /// What a snapshot says. A value that cannot be read is passed over: another version may have written it.
    pub(super) fn view(&self, snapshot: &PrefixSnapshot) -> ClusterView {
        let mut view = ClusterView::default();
        for (key, value) in snapshot.keys.iter() {
            let Some(name) = std::str::from_utf8(key)
                .ok()
                .and_then(|key| key.strip_prefix(&self.prefix))
            else {
                continue;
            };
            match name.split_once('/') {
                Some(("members", name)) => {
                    view.members
                        .extend(parsed(name, value).map(|record| ClusterMember {
                            name: name.to_owned(),
                            record,
                        }))
                }
                Some(("changes", pool)) => {
                    view.changes.extend(parsed(name, value).map(|changes| {
                        let revision = value.mod_revision;
                        (pool.to_owned(), SharedChanges { revision, changes })
                    }))
                }
                None if name == "secret" => {
                    view.secret = ClusterSecret::decode(&value.value);
                }
                _ => {}
            }
        }
        view
    }
}

fn parsed<T: for<'a> Deserialize<'a>>(name: &str, value: &KeyValue) -> Option<T> {
    // A list would be taken for fields in their order.
    let map = serde_json::from_slice::<Map<String, Value>>(&value.value);
    map.and_then(|map| T::deserialize(Value::Object(map)))
        .inspect_err(|error| {
            warn!(
                "cluster: the key `{}` cannot be read: {error}",
                name.escape_debug()
            )
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn view(keys: &[(&str, &str)]) -> ClusterView {
        let keys = keys.iter().zip(1..).map(|((key, value), mod_revision)| {
            let key = key.as_bytes().to_vec();
            let value = KeyValue {
                key: key.clone(),
                value: value.as_bytes().to_vec(),
                mod_revision,
                ..KeyValue::default()
            };
            (key, Arc::new(value))
        });
        let snapshot = PrefixSnapshot {
            keys: Arc::new(keys.collect()),
            ..PrefixSnapshot::default()
        };
        KeyNames::new("/ballast/", "prod").view(&snapshot)
    }

    #[test]
    fn what_cannot_be_read_is_passed_over() {
        let found = view(&[
            (
                "/ballast/prod/changes/web",
                r#"{"overrides":{"added":[]},"drained":["a:1"],"by":"one","new":7}"#,
            ),
            ("/ballast/prod/changes/x", "7"),
            ("/ballast/prod/changes/y", "{}"),
            (
                "/ballast/prod/members/a",
                r#"{"version":"1","pid":7,"config":"","started":"2026-01-01T00:00:00.000Z"}"#,
            ),
            ("/ballast/prod/members/b", "{"),
            ("/ballast/prod/secret", "c2hvcnQ="),
            ("/ballast/prod/unknown/z", "{}"),
            ("/other/prod/members/c", "{}"),
        ]);
        assert_eq!(Vec::from_iter(found.changes.keys()), ["web", "y"]);
        assert_eq!(found.changes["web"].revision, 1);
        assert!(found.changes["web"].changes.drained.contains("a:1"));
        let names = found.members.iter().map(|member| &member.name);
        assert_eq!(Vec::from_iter(names), ["a"]);
        assert_eq!(found.secret, None);
        let long = view(&[("/ballast/prod/secret", "MDEyMzQ1Njc4OWFiY2RlZg==")]);
        let secret = long.secret.as_ref().map(ClusterSecret::as_bytes);
        assert_eq!(secret, Some(b"0123456789abcdef".as_slice()));
    }
}
