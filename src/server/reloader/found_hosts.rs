//! Takes in the hosts that sources have told, as a reload does.

use std::collections::HashSet;
use std::time::Duration;

use log::error;
use tokio::time::sleep;

use super::{Reloader, RuntimeOverrides};
use crate::config::{Config, HostSource, Pool};
use crate::discovery::{SourceTable, with_members};
use crate::event_log::EventKind;
use crate::server::reload_plan::{FirstRound, find_pool};
use crate::server::reloader::ReloadError;
use ballast_balancer::HostId;

/// How often it is looked at whether leaving hosts may go.
const LEAVING_INTERVAL: Duration = Duration::from_millis(200);

/// Waits until sources have told something new, or leaving hosts may go.
pub(super) async fn due(sources: &SourceTable, found_config: &Config) {
    let mut members = found_config.pools.iter().flat_map(|pool| &pool.members);
    match members.any(|host| host.is_leaving) {
        false => sources.changed().await,
        true => tokio::select! {
            () = sources.changed() => {}
            () = sleep(LEAVING_INTERVAL) => {}
        },
    }
}

impl Reloader {
    /// `file_config` with the hosts that sources have told.
    pub(super) fn with_found_hosts(&self, file_config: &Config) -> Config {
        let active = self.active.load();
        let is_usable = |pool: &str, host: &HostId| {
            let member = find_pool(&active, pool).and_then(|pool| pool.member(host));
            member.is_some_and(|member| member.is_usable())
        };
        let before = Some(&self.found_config);
        with_members(file_config, self.discovery.table(), before, is_usable)
    }

    /// The same for a file that is about to take effect; its sources are asked first.
    pub(super) async fn find_hosts_of(&self, file_config: &Config) -> Result<Config, ReloadError> {
        self.discovery.prepare(&self.file_config, file_config).await;
        let found_config = self.with_found_hosts(file_config);
        let had_hosts = |name: &str| {
            let mut pools = self.found_config.pools.iter();
            pools.any(|pool| pool.name == name && !pool.members.is_empty())
        };
        let missing = self.discovery.missing(&found_config, had_hosts);
        missing.map_err(ReloadError::Invalid)?;
        Ok(found_config)
    }

    /// Uses what sources have told from now on.
    pub(super) async fn take_found_hosts(&mut self) {
        let found_config = self.with_found_hosts(&self.file_config);
        let pools = found_config.pools.iter().zip(&self.found_config.pools);
        let changes = Vec::from_iter(pools.filter_map(|(now, before)| changes(now, before)));
        if found_config.pools != self.found_config.pools {
            let mut overrides = RuntimeOverrides::clone(&self.overrides.load());
            let (config, _) = self.effective(&found_config, &mut overrides);
            let loaded = self.loaded_config.load().loaded;
            if let Err(refusal) = self
                .activate(config, loaded, FirstRound::InBackground)
                .await
            {
                error!("what sources have told cannot be used: {refusal}");
                return;
            }
            self.found_config = found_config;
        }
        for (pool, text) in changes {
            if let Some(pool) = find_pool(&self.active.load(), &pool) {
                pool.log_event(EventKind::HostsFound, None, &text);
            }
        }
    }
}

/// The name of a pool, and what its sources have changed in it; `None`: nothing.
fn changes(now: &Pool, before: &Pool) -> Option<(String, String)> {
    let sources: Vec<HostSource> = now.sources().collect();
    let changes = sources.iter().filter_map(|source| {
        let of_source = |pool: &Pool| {
            let members = pool.members.iter();
            let members = members.filter(|host| host.source.as_ref() == Some(source));
            members.map(|host| host.id.clone()).collect::<HashSet<_>>()
        };
        let (now, before) = (of_source(now), of_source(before));
        let added = sorted(now.difference(&before));
        let removed = sorted(before.difference(&now));
        let parts = [(added, "added"), (removed, "removed")];
        let parts = parts.into_iter().filter(|(hosts, _)| !hosts.is_empty());
        let parts = Vec::from_iter(parts.map(|(hosts, what)| format!("{what} {}", shown(&hosts))));
        (!parts.is_empty()).then(|| format!("source {source} {}", parts.join(", ")))
    });
    let changes = Vec::from_iter(changes);
    (!changes.is_empty()).then(|| (now.name.clone(), changes.join("; ")))
}

fn sorted<'a>(hosts: impl Iterator<Item = &'a HostId>) -> Vec<&'a str> {
    let mut hosts = Vec::from_iter(hosts.map(HostId::as_str));
    hosts.sort_unstable();
    hosts
}

/// A few hosts, and how many more there are.
fn shown(hosts: &[&str]) -> String {
    const SHOWN: usize = 5;
    match hosts.len() {
        0..=SHOWN => hosts.join(" "),
        many => format!("{} and {} more", hosts[..SHOWN].join(" "), many - SHOWN),
    }
}
