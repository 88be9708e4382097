//! What the members of a cluster share: operators' changes, limits and secrets.

use std::collections::BTreeSet;
use std::future::pending;

use log::{error, warn};

use super::{Reloader, RuntimeOverrides};
use crate::admin::ChangeError;
use crate::cluster::{Cluster, PoolChanges, PublishError, SharedChanges};
use crate::event_log::EventKind;
use crate::metrics::ClusterChangeOutcome;
use crate::pool::{Member, Pool};
use crate::server::reload_plan::{FirstRound, find_pool};
use ballast_balancer::HostId;

/// Waits until the members of the cluster share something new.
pub(super) async fn due(cluster: Option<&Cluster>) {
    match cluster {
        Some(cluster) => cluster.changed().await,
        None => pending().await,
    }
}

impl Reloader {
    /// What the members share of a pool; `None`: nothing, or the process is alone.
    pub(super) fn shared_changes(&self, pool: &str) -> Option<SharedChanges> {
        let view = self.cluster.as_ref()?.view();
        view.changes.get(pool).cloned()
    }

    /// Shares the overrides of a pool with the cluster, and whether a host is drained, before they take effect here. They are
    /// based on `known`.
    pub(super) async fn share_change(
        &self,
        pool: &Pool,
        overrides: &RuntimeOverrides,
        known: Option<SharedChanges>,
        drain: Option<(HostId, bool)>,
    ) -> Result<(), ChangeError> {
        let Some(cluster) = &self.cluster else {
            return Ok(());
        };
        let mut drained = match &known {
            Some(known) => known.changes.drained.clone(),
            // What was drained before there was a cluster.
            None => drained(pool),
        };
        match drain {
            Some((host, true)) => drained.insert(host.as_str().to_owned()),
            Some((host, false)) => drained.remove(host.as_str()),
            None => false,
        };
        let changes = PoolChanges {
            overrides: overrides.export_pool(pool.name()),
            drained,
            by: cluster.member_name().to_owned(),
        };
        let revision = known.map(|known| known.revision);
        let published = cluster.publish(pool.name(), revision, changes).await;
        let outcome = match &published {
            Ok(()) => ClusterChangeOutcome::Published,
            Err(PublishError::Conflict) => ClusterChangeOutcome::Conflict,
            Err(PublishError::Refused(_)) => ClusterChangeOutcome::Refused,
            Err(PublishError::Unknown(_)) => ClusterChangeOutcome::Unknown,
        };
        self.observers.counts.count_cluster_change(outcome);
        published.map_err(|error| ChangeError::Conflict(error.to_string()))
    }

    /// Uses what the members share from now on.
    pub(super) async fn take_cluster(&mut self) {
        let Some(cluster) = self.cluster.clone() else {
            return;
        };
        let view = cluster.view();
        self.host_registry.stretch_checks(cluster.members());
        let before = RuntimeOverrides::clone(&self.overrides.load());
        let mut overrides = before.clone();
        let mut news = Vec::new();
        for (name, shared) in &view.changes {
            let known = overrides.export_pool(name);
            if known == shared.changes.overrides {
                continue;
            }
            match overrides.import_pool(name, &shared.changes.overrides) {
                Ok(()) => news.push((name.clone(), shared.changes.by.clone())),
                Err(reason) => {
                    warn!("cluster: the changes of pool {name} cannot be read: {reason}")
                }
            }
        }
        let (config, _) = self.effective(&self.found_config, &mut overrides.clone());
        if config != self.config {
            let loaded = self.loaded_config.load().loaded;
            if let Err(refusal) = self
                .activate(config, loaded, FirstRound::InBackground)
                .await
            {
                error!("what the cluster shares cannot be used: {refusal}");
                return;
            }
        }
        self.overrides.store(overrides.into());
        self.apply_shared();
        for (pool, member) in news {
            if let Some(pool) = find_pool(&self.active.load(), &pool) {
                let text = format!("took in what an operator has changed on member {member}");
                pool.log_event(EventKind::ClusterChanged, None, &text);
            }
        }
    }

    /// Applies to the active pools what is not a part of the configuration.
    pub(super) fn apply_shared(&mut self) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        let view = cluster.view();
        if let Some(secret) = &view.secret
            && self.cluster_secret.as_ref() != Some(secret)
        {
            self.ticket_keys.adopt_secret(secret.as_bytes());
            self.cluster_secret = Some(secret.clone());
        }
        for pool in &self.active.load().pools {
            if let Some(secret) = &view.secret {
                pool.adopt_secret(secret.as_bytes());
            }
            let Some(shared) = view.changes.get(pool.name()) else {
                continue;
            };
            for member in pool.members() {
                let is_drained = shared.changes.drained.contains(member.host().id().as_str());
                pool.drain(member, is_drained);
            }
        }
    }
}

/// The ids of the hosts that operators have drained here.
fn drained(pool: &Pool) -> BTreeSet<String> {
    let drained = pool
        .members()
        .iter()
        .filter(|member| Member::is_drained(member));
    drained
        .map(|member| member.host().id().as_str().to_owned())
        .collect()
}
