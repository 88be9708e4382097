//! Active health checks: one task per host tries it on its own schedule and tells the pool, which draws the consequences;
//! one task per pool wakes it where time alone changes something.
//!
//! Pingora's own scheduler runs in passes, each of which waits for its slowest check, and takes hosts for healthy until
//! proven otherwise. Here no host waits for another, and none is used before it was proven.

mod keeper;
mod probe;
mod thresholds;
mod watch;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::pool::Pool;

use probe::Probe;
use watch::Watch;

/// The running checks of a set of pools. They end when this is dropped.
#[derive(Debug)]
pub struct Monitor {
    _tasks: JoinSet<()>,
}

impl Monitor {
    /// Starts checking. Returns when every host of `pools` has been checked once, except where `initial: up` or a verdict
    /// that was carried over makes that unnecessary; the first result of a host without either decides alone.
    pub async fn start(pools: &[Arc<Pool>]) -> Monitor {
        let mut first_round = JoinSet::new();
        let mut watches = Vec::new();
        for pool in pools {
            let Some(check) = pool.health_check() else {
                continue;
            };
            for (member, probe) in Probe::for_pool(pool, check).into_iter().enumerate() {
                let mut watch = Watch::new(Arc::clone(pool), member, probe, check);
                if watch.is_judged() {
                    watches.push(watch);
                    continue;
                }
                first_round.spawn(async move {
                    watch.check().await;
                    watch
                });
            }
        }
        while let Some(watch) = first_round.join_next().await {
            match watch {
                Ok(watch) => watches.push(watch),
                Err(error) => log::error!("a health check ended for good: {error}"),
            }
        }
        let mut tasks = JoinSet::new();
        for pool in pools {
            pool.reconcile();
            tasks.spawn(keeper::keep(Arc::clone(pool)));
        }
        for watch in watches {
            tasks.spawn(watch.run());
        }
        Monitor { _tasks: tasks }
    }
}
