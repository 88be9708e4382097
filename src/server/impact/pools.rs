//! What a reload does to the pools.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::hosts::{added, host_plans, removed};
use super::keys::{KeyBudget, key_plan};
use super::{Comparison, LiveState};
use crate::admin::{ChecksPlan, PoolPlan};
use crate::config::{self, Host};
use crate::pool::Pool;

/// A pool that is in both configurations.
#[derive(Debug, Clone, Copy)]
pub(super) struct PoolPair<'a> {
    pub(super) before: &'a config::Pool,
    pub(super) after: &'a config::Pool,
    /// `None`: no process runs with it.
    pub(super) live: Option<&'a Pool>,
}

/// The hosts of a pool in effect.
pub(super) fn hosts_of(pool: &config::Pool) -> &[Host] {
    &pool.members
}

/// The pools that come or change, in the order of the file, and then those that go.
pub(super) fn pool_plans(comparison: &Comparison<'_>) -> Vec<PoolPlan> {
    let Comparison { before, after, .. } = comparison;
    let (old, new) = (by_name(&before.pools), by_name(&after.pools));
    let live = comparison.live.map(live_pools).unwrap_or_default();
    let live = |name: &str| live.get(name).copied();
    let mut plans = Vec::new();
    let mut with_keys = Vec::new();
    for pool in &after.pools {
        let name = pool.name.as_str();
        let Some(&before) = old.get(name) else {
            plans.push(new_pool(pool));
            continue;
        };
        let pair = PoolPair {
            before,
            after: pool,
            live: live(name),
        };
        let Some(plan) = changed_pool(pair) else {
            continue;
        };
        if !plan.hosts.is_empty() || before.algorithm != pool.algorithm {
            with_keys.push((plans.len(), pair));
        }
        plans.push(plan);
    }
    let mut budget = KeyBudget::for_pools(with_keys.len(), Instant::now());
    for (index, pair) in with_keys {
        plans[index].keys = Some(key_plan(&pair, budget.next_pool(Instant::now())));
    }
    let gone = before.pools.iter();
    let gone = gone.filter(|pool| !new.contains_key(pool.name.as_str()));
    plans.extend(gone.map(|pool| removed_pool(pool, live(&pool.name))));
    plans
}

fn new_pool(pool: &config::Pool) -> PoolPlan {
    PoolPlan {
        name: pool.name.clone(),
        algorithm_before: None,
        algorithm_after: Some(pool.algorithm.info().name.to_owned()),
        keys: None,
        hosts: hosts_of(pool).iter().map(added).collect(),
        checks: pool.health_check.as_ref().map(|_| ChecksPlan::Begin),
        void_cookies: None,
    }
}

fn removed_pool(pool: &config::Pool, live: Option<&Pool>) -> PoolPlan {
    let void_cookies = pool.sticky.as_ref().map(|_| "all: the pool is removed");
    PoolPlan {
        name: pool.name.clone(),
        algorithm_before: Some(pool.algorithm.info().name.to_owned()),
        algorithm_after: None,
        keys: None,
        hosts: hosts_of(pool)
            .iter()
            .map(|host| removed(host, live))
            .collect(),
        checks: pool.health_check.as_ref().map(|_| ChecksPlan::End),
        void_cookies: void_cookies.map(str::to_owned),
    }
}

/// `None`: nothing changes that a plan is about.
fn changed_pool(pair: PoolPair<'_>) -> Option<PoolPlan> {
    let PoolPair { before, after, .. } = pair;
    if before == after {
        return None;
    }
    let hosts = host_plans(&pair);
    let plan = PoolPlan {
        name: after.name.clone(),
        algorithm_before: Some(before.algorithm.info().name.to_owned()),
        algorithm_after: Some(after.algorithm.info().name.to_owned()),
        keys: None,
        checks: checks_plan(before, after),
        void_cookies: void_cookies(&pair, hosts.iter().any(|host| host.after.is_none())),
        hosts,
    };
    let is_empty = plan.hosts.is_empty() && plan.checks.is_none() && plan.void_cookies.is_none();
    (!is_empty || before.algorithm != after.algorithm).then_some(plan)
}

fn checks_plan(before: &config::Pool, after: &config::Pool) -> Option<ChecksPlan> {
    match (&before.health_check, &after.health_check) {
        (Some(before), Some(after)) if before != after => Some(ChecksPlan::StartAnew),
        (None, Some(_)) => Some(ChecksPlan::Begin),
        (Some(_), None) => Some(ChecksPlan::End),
        _ => None,
    }
}

/// Which cookies lose their meaning. `hosts_go`: hosts leave the pool.
fn void_cookies(pair: &PoolPair<'_>, hosts_go: bool) -> Option<String> {
    let before = pair.before.sticky.as_ref()?;
    let reason = match &pair.after.sticky {
        None => "all: the pool has no cookie any more",
        Some(after) if after.cookie != before.cookie => "all: the cookie has another name",
        Some(after) if after.secret_file != before.secret_file => {
            "all: another key authenticates them"
        }
        Some(_) if hosts_go => "those of the hosts that go",
        Some(after) if after.ttl < before.ttl => "those older than the new ttl",
        Some(_) => return None,
    };
    Some(reason.to_owned())
}

fn by_name(pools: &[config::Pool]) -> HashMap<&str, &config::Pool> {
    let named = pools.iter().map(|pool| (pool.name.as_str(), pool));
    named.collect()
}

fn live_pools(live: &LiveState) -> HashMap<&str, &Pool> {
    let pools = live.pools.iter().map(Arc::as_ref);
    pools.map(|pool| (pool.name(), pool)).collect()
}
