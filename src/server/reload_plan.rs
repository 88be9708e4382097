//! The preparation of a reload: everything that can fail is done before anything is replaced.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::config::{self, Config};
use crate::health::Monitor;
use crate::pool::{HostRegistry, Pool};
use crate::proxy::{ActiveConfig, PreviousPool};
use crate::supervisor::panic_message;

use super::reloader::ReloadError;
use super::request_observers::RequestObservers;

/// Whether a change takes effect before the hosts that are new have been checked once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstRound {
    /// The first checks come first, so that the change is whole once it takes effect.
    Awaited,
    /// The change takes effect at once: hosts that stay must not wait for one that does not respond.
    InBackground,
}

/// The prepared result of a reload; applying it cannot fail.
pub(super) struct ReloadPlan {
    pub(super) config: Config,
    pub(super) host_registry: HostRegistry,
    pub(super) active: ActiveConfig,
    /// The health checks of the new pools.
    pub(super) checks: Vec<(Arc<Pool>, Monitor)>,
}

impl ReloadPlan {
    /// Prepares the change from `old`, `host_registry` and `before` to `config`. Unchanged pools are kept.
    pub(super) async fn build(
        config: Config,
        old: Config,
        mut host_registry: HostRegistry,
        before: Arc<ActiveConfig>,
        observers: RequestObservers,
        first_round: FirstRound,
    ) -> Result<Self, ReloadError> {
        let same_timeouts = config.timeouts == old.timeouts;
        let previous = |pool: &config::Pool| {
            let previous = Arc::clone(find_pool(&before, &pool.name)?);
            let is_built = || old.pools.iter().any(|old| old.is_built_as(pool));
            Some(match same_timeouts && is_built() {
                true => PreviousPool::Unchanged(previous),
                false => PreviousPool::Replaced(previous),
            })
        };
        let mut active = ActiveConfig::replacing(&config, &mut host_registry, previous)
            .map_err(|error| ReloadError::Invalid(error.to_string()))?;
        active.continue_routes(&before);
        let built = observers.build(&config, &active, Some(&before));
        active.observers = built.map_err(ReloadError::Invalid)?;
        let is_kept = |pool: &Arc<Pool>| before.pools.iter().any(|old| Arc::ptr_eq(old, pool));
        let mut new_pools = active.pools.clone();
        new_pools.retain(|pool| !is_kept(pool));
        for pool in &new_pools {
            if let Some(old) = find_pool(&before, pool.name()) {
                pool.restore(&old.state());
            }
        }
        let checks = start_checks(&new_pools, first_round).await;
        let hosts = config.pools.iter().flat_map(|pool| {
            // A removed host keeps its in-flight count for the case that it is added again.
            let removed = pool.removed.iter().map(|(host, _)| host);
            pool.members.iter().chain(removed)
        });
        host_registry.retain(hosts.map(|host| &host.id));
        Ok(ReloadPlan {
            config,
            host_registry,
            active,
            checks,
        })
    }
}

/// Runs `work` in a task, so that a panic fails only this reload.
pub(super) async fn run_contained<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, ReloadError> {
    tokio::spawn(work).await.map_err(|error| {
        ReloadError::Internal(match error.try_into_panic().ok() {
            Some(panic) => panic_message(&*panic).to_owned(),
            None => "it was cut short".to_owned(),
        })
    })
}

pub(super) fn find_pool<'a>(active: &'a ActiveConfig, name: &str) -> Option<&'a Arc<Pool>> {
    active.pools.iter().find(|pool| pool.name() == name)
}

/// Starts the health checks of each pool; returns after the first round of all pools, if that is awaited.
pub(super) async fn start_checks(
    pools: &[Arc<Pool>],
    first_round: FirstRound,
) -> Vec<(Arc<Pool>, Monitor)> {
    if first_round == FirstRound::InBackground {
        let pools = pools.iter();
        let started = pools.map(|pool| {
            (
                Arc::clone(pool),
                Monitor::start_now(std::slice::from_ref(pool)),
            )
        });
        return started.collect();
    }
    let mut starting = JoinSet::new();
    for pool in pools {
        let pool = Arc::clone(pool);
        starting.spawn(async move {
            let monitor = Monitor::start(std::slice::from_ref(&pool)).await;
            (pool, monitor)
        });
    }
    starting.join_all().await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error text of a reload that panics.
    async fn refusal(panic: impl FnOnce() + Send + 'static) -> String {
        let work = async move {
            tokio::task::yield_now().await;
            panic();
        };
        run_contained(work)
            .await
            .expect_err("it is not done")
            .to_string()
    }

    #[tokio::test]
    async fn a_panic_is_the_end_of_one_reload_only() {
        let (steps, number) = ([1], std::hint::black_box(7));
        let index = refusal(move || assert_eq!(steps[number], 1)).await;
        assert!(index.contains("a bug in ballast: index out of bounds"));
        let literal = refusal(|| panic!("a literal")).await;
        assert!(literal.ends_with("a bug in ballast: a literal"));
        let strange = refusal(|| std::panic::panic_any(7)).await;
        assert!(strange.ends_with("no message"));
        assert_eq!(run_contained(async { 7 }).await.ok(), Some(7));
    }
}
