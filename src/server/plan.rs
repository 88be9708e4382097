//! What leads from the site that serves to the next: everything that can fail, done before anything is replaced.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::config::{self, Config};
use crate::health::Monitor;
use crate::pool::{HostBook, Pool};
use crate::proxy::{Before, Site};
use crate::supervisor::message;

use super::observers::Observers;
use super::reload::Refusal;

/// Everything of a reload that can fail, done.
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) book: HostBook,
    pub(super) site: Site,
    /// The checks of the pools that are new.
    pub(super) checks: Vec<(Arc<Pool>, Monitor)>,
}

impl Plan {
    /// What leads from `old`, `book` and `before` to `config`; pools that did not change are kept.
    pub(super) async fn make(
        config: Config,
        old: Config,
        mut book: HostBook,
        before: Arc<Site>,
        observers: Observers,
    ) -> Result<Self, Refusal> {
        let alike = config.timeouts == old.timeouts;
        let earlier = |pool: &config::Pool| {
            let earlier = Arc::clone(named(&before, &pool.name)?);
            Some(match alike && old.pools.contains(pool) {
                true => Before::Same(earlier),
                false => Before::Other(earlier),
            })
        };
        let mut site = Site::following(&config, &mut book, earlier)
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        let heard = observers.of(&config, &site, Some(&before));
        site.observers = heard.map_err(Refusal::Invalid)?;
        let is_kept = |pool: &Arc<Pool>| before.pools.iter().any(|old| Arc::ptr_eq(old, pool));
        let mut fresh = site.pools.clone();
        fresh.retain(|pool| !is_kept(pool));
        for pool in &fresh {
            if let Some(old) = named(&before, pool.name()) {
                pool.carry(&old.state());
            }
        }
        let checks = watch(&fresh).await;
        let hosts = config.pools.iter().flat_map(|pool| {
            // What runs on a host that was removed counts if it comes back.
            let removed = pool.removed.iter().map(|(host, _)| host);
            pool.hosts.iter().chain(removed)
        });
        book.keep(hosts.map(|host| &host.id));
        Ok(Plan {
            config,
            book,
            site,
            checks,
        })
    }
}

/// Runs `work` so that a panic in it is only its own end.
pub(super) async fn contained<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await.map_err(|error| {
        Refusal::Broken(match error.try_into_panic().ok() {
            Some(panic) => message(&*panic).to_owned(),
            None => "it was cut short".to_owned(),
        })
    })
}

pub(super) fn named<'a>(site: &'a Site, name: &str) -> Option<&'a Arc<Pool>> {
    site.pools.iter().find(|pool| pool.name() == name)
}

/// Starts the checks of each pool; returns after the first round of all.
pub(super) async fn watch(pools: &[Arc<Pool>]) -> Vec<(Arc<Pool>, Monitor)> {
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

    /// What a reload that panics is refused with.
    async fn refusal(panic: impl FnOnce() + Send + 'static) -> String {
        let work = async move {
            tokio::task::yield_now().await;
            panic();
        };
        contained(work)
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
        assert!(strange.ends_with("no reason was given"));
        assert_eq!(contained(async { 7 }).await.ok(), Some(7));
    }
}
