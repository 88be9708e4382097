//! What operators have changed at run time, on top of the file.
//!
//! An edited file beats an operator: a change holds over reloads and handovers until the file says something else about
//! that host than it did when the change was made. The end of the process is its end, too.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::admin::{Change, ChangeError};
use crate::balancer::{HostId, MAX_WEIGHT};
use crate::config::{self, Config, Host};
use crate::journal::Kind;
use crate::moment::Moment;
use crate::pool::{Member, Pool};

/// The changes of all pools, by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Overlay(BTreeMap<String, Layer>);

/// The changes of one pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Layer {
    added: Vec<Added>,
    removed: Vec<Removed>,
    weighed: Vec<Weighed>,
}

/// What a file says, or could say, about a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Words {
    weight: u32,
    backup: bool,
    max_in_flight: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Added {
    id: String,
    /// What the name in `id` was resolved to.
    address: SocketAddr,
    words: Words,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Removed {
    id: String,
    at: Moment,
    /// What the file said then.
    words: Words,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Weighed {
    id: String,
    weight: u32,
    /// What the file said then.
    said: u32,
}

/// A change that was noted, for the journal.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) kind: Kind,
    pub(super) host: HostId,
    pub(super) text: String,
}

impl Told {
    fn new(kind: Kind, host: &HostId, text: String) -> Self {
        let host = host.clone();
        Told { kind, host, text }
    }
}

impl Overlay {
    /// The configuration that comes of the file's. Changes that the file has overtaken are dropped; a line for each.
    pub(super) fn on(&mut self, file: &Config) -> (Config, Vec<String>) {
        let mut config = file.clone();
        let mut dropped = Vec::new();
        self.0.retain(|name, layer| {
            let mut pools = config.pools.iter_mut();
            let Some(pool) = pools.find(|pool| pool.name == *name) else {
                dropped.push(format!(
                    "pool {name}: what an operator changed went with it"
                ));
                return false;
            };
            layer.apply(pool, &mut dropped);
            *layer != Layer::default()
        });
        (config, dropped)
    }

    /// Notes what an operator asks for in the pool that is `file` in the file and serves as `pool`.
    ///
    /// # Errors
    /// It cannot be done, or would leave the pool without a usable host.
    pub(super) fn change(
        &mut self,
        file: &config::Pool,
        pool: &Pool,
        change: Change,
    ) -> Result<Told, ChangeError> {
        match change {
            Change::Add(host) => {
                if let Some(member) = pool.members().iter().find(|&member| is_same(member, &host)) {
                    let (pool, id) = (pool.name(), member.host().id());
                    let reason = format!("the pool {pool} has a host `{id}` already");
                    return Err(ChangeError::Conflict(reason));
                }
                let text = format!("was added by an operator, weight {}", host.weight);
                let told = Told::new(Kind::Added, &host.id, text);
                self.add(file, host)?;
                Ok(told)
            }
            Change::Remove { host, force } => {
                let member = known(pool, &host)?;
                if member.is_usable() && pool.usable() == 1 && !force {
                    let pool = pool.name();
                    return Err(ChangeError::Conflict(format!(
                        "`{host}` is the last usable host of the pool {pool}; force=true removes it nevertheless"
                    )));
                }
                self.remove(file, &host);
                Ok(Told::new(
                    Kind::Removed,
                    &host,
                    "was removed by an operator".to_owned(),
                ))
            }
            Change::Weigh { host, weight } => {
                let before = known(pool, &host)?.host().weight();
                self.weigh(file, &host, weight);
                let text = format!("has weight {weight} now by an operator, had {before}");
                Ok(Told::new(Kind::Weighed, &host, text))
            }
        }
    }

    /// Adds `host` to the pool `file`, or brings one of the file's back that was removed.
    fn add(&mut self, file: &config::Pool, host: Host) -> Result<(), ChangeError> {
        let layer = self.layer(file);
        let words = Words::of(&host);
        let Some(said) = file.hosts.iter().find(|said| said.is_same(&host)) else {
            layer.added.push(Added {
                id: host.id.as_str().to_owned(),
                address: host.address,
                words,
            });
            return Ok(());
        };
        let as_said = Words {
            weight: words.weight,
            ..Words::of(said)
        };
        if said.id != host.id || words != as_said {
            return Err(ChangeError::Conflict(format!(
                "`{}` is in the file and was removed by an operator; it comes back as it stands there, but for its weight",
                said.id
            )));
        }
        layer
            .removed
            .retain(|removed| removed.id != host.id.as_str());
        layer.weigh(said, host.weight);
        Ok(())
    }

    /// Removes a host.
    fn remove(&mut self, file: &config::Pool, id: &HostId) {
        let layer = self.layer(file);
        layer.added.retain(|added| added.id != id.as_str());
        layer.weighed.retain(|weighed| weighed.id != id.as_str());
        if let Some(said) = find(file, id) {
            layer.removed.push(Removed {
                id: id.as_str().to_owned(),
                at: Moment::now(),
                words: Words::of(said),
            });
        }
    }

    /// Gives a host another weight.
    fn weigh(&mut self, file: &config::Pool, id: &HostId, weight: u32) {
        let layer = self.layer(file);
        match find(file, id) {
            Some(said) => layer.weigh(said, weight),
            None => {
                let mut added = layer.added.iter_mut();
                if let Some(added) = added.find(|added| added.id == id.as_str()) {
                    added.words.weight = weight;
                }
            }
        }
    }

    fn layer(&mut self, file: &config::Pool) -> &mut Layer {
        self.0.entry(file.name.clone()).or_default()
    }
}

impl Layer {
    /// Changes `pool`, and drops what the file has overtaken.
    fn apply(&mut self, pool: &mut config::Pool, dropped: &mut Vec<String>) {
        let name = pool.name.clone();
        let mut overtaken = |id: &str, what: &str| {
            dropped.push(format!(
                "pool {name}: host {id} was edited; that an operator {what} holds no more"
            ));
            false
        };
        self.weighed.retain(|weighed| {
            let mut hosts = pool.hosts.iter_mut();
            match hosts.find(|host| host.id.as_str() == weighed.id) {
                Some(host) if host.weight == weighed.said && weighed.weight <= MAX_WEIGHT => {
                    host.weight = weighed.weight;
                    true
                }
                Some(_) => overtaken(&weighed.id, "has given it another weight"),
                None => false,
            }
        });
        self.removed.retain(|removed| {
            let mut hosts = pool.hosts.iter();
            match hosts.position(|host| host.id.as_str() == removed.id) {
                Some(index) if Words::of(&pool.hosts[index]) == removed.words => {
                    let host = pool.hosts.remove(index);
                    pool.removed.push((host, removed.at));
                    true
                }
                Some(_) => overtaken(&removed.id, "has removed it"),
                None => false,
            }
        });
        self.added.retain(|added| match added.host() {
            Some(host) if !pool.hosts.iter().any(|other| other.is_same(&host)) => {
                pool.hosts.push(host);
                true
            }
            _ => overtaken(&added.id, "has added it"),
        });
    }

    fn weigh(&mut self, said: &Host, weight: u32) {
        let id = said.id.as_str();
        self.weighed.retain(|weighed| weighed.id != id);
        if weight != said.weight {
            self.weighed.push(Weighed {
                id: id.to_owned(),
                weight,
                said: said.weight,
            });
        }
    }
}

impl Added {
    /// `None` if another process said what makes no sense here.
    fn host(&self) -> Option<Host> {
        let Words {
            weight,
            backup,
            max_in_flight,
        } = self.words;
        let host = Host::at(&self.id, self.address).ok()?;
        (weight <= MAX_WEIGHT).then_some(Host {
            weight,
            backup,
            max_in_flight,
            ..host
        })
    }
}

impl Words {
    fn of(host: &Host) -> Self {
        Words {
            weight: host.weight,
            backup: host.backup,
            max_in_flight: host.max_in_flight,
        }
    }
}

fn find<'a>(pool: &'a config::Pool, id: &HostId) -> Option<&'a Host> {
    pool.hosts.iter().find(|host| host.id == *id)
}

/// The host that is meant.
fn known<'a>(pool: &'a Pool, id: &HostId) -> Result<&'a Member, ChangeError> {
    pool.member(id).ok_or_else(|| {
        let (pool, id) = (pool.name(), id.as_str().escape_debug());
        ChangeError::Unknown(format!("the pool {pool} does not have a host `{id}`"))
    })
}

/// Whether a host of a pool is this server, however it is spelled.
fn is_same(member: &Member, host: &Host) -> bool {
    let known = Host::at(member.host().id().as_str(), member.host().address());
    known.is_ok_and(|known| known.is_same(host))
}
