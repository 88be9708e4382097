//! What a reload does to hosts, keys and connections: computed from two configurations, and from the running process if
//! there is one. Nothing is changed. It takes time, so it runs on a thread for blocking work.

mod connections;
mod files;
mod hosts;
mod keys;
mod pools;

use std::path::Path;
use std::sync::Arc;

use super::config_diff::ConfigDiff;
use super::edge::Connections;
use crate::admin::Plan;
use crate::config::Config;
use crate::pool::Pool;
use crate::proxy::TrafficState;

/// What the running process knows.
#[derive(Debug)]
pub(super) struct LiveState {
    pub(super) pools: Vec<Arc<Pool>>,
    pub(super) connections: Arc<Connections>,
    pub(super) traffic: Arc<TrafficState>,
}

/// Two configurations in effect, with the changes of operators applied, and what differs between their files.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    pub(super) before: &'a Config,
    pub(super) after: &'a Config,
    pub(super) changes: ConfigDiff,
    /// `None`: no process runs with `before`.
    pub(super) live: Option<&'a LiveState>,
}

/// What a reload from one configuration to the other does, without a process: nothing is known of what is open or in
/// flight, and what `after` needs of the system is not tried.
pub fn compare(file: &Path, before: &Config, after: &Config) -> Plan {
    let comparison = Comparison {
        before,
        after,
        changes: ConfigDiff::between(before, after),
        live: None,
    };
    comparison.plan(file, Vec::new())
}

impl Comparison<'_> {
    /// The plan of a reload of `file`, which fails because of `obstacles`, if there are any.
    pub(super) fn plan(self, file: &Path, mut obstacles: Vec<String>) -> Plan {
        if self.live.is_some() {
            obstacles.extend(files::obstacles(self.before, self.after));
        }
        Plan {
            file: file.display().to_string(),
            way: self.changes.way().map(str::to_owned),
            pools: pools::pool_plans(&self),
            connections: connections::connection_plan(&self),
            obstacles,
            in_place: self.changes.in_place,
            in_new_process: self.changes.in_new_process,
        }
    }
}

#[cfg(test)]
mod tests;
