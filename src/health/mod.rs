//! Active health checks: one task per host tries it on its own schedule and tells the pool, which draws the consequences;
//! one task per pool wakes it where time alone changes something.
//!
//! Pingora's own scheduler runs in passes, each of which waits for its slowest check, and takes hosts for healthy until
//! proven otherwise. Here no host waits for another, and none is used before it was proven.

mod keeper;
mod probe;
mod shortage;
mod storm;
mod thresholds;
mod watch;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::pool::Pool;
use crate::supervisor::{Supervisor, Task};

use probe::Probe;
use storm::Storm;
use watch::Watch;

/// How long a start or a reload waits for the first round of checks, however long a single one may take.
pub const FIRST_ROUND: Duration = Duration::from_secs(10);

/// The running checks of a set of pools. They end when this is dropped.
#[derive(Debug)]
pub struct Monitor {
    _tasks: JoinSet<()>,
}

impl Monitor {
    /// Starts checking. Returns when every host of `pools` has been checked once, except where `initial: up` or a verdict
    /// that was carried over makes that unnecessary, but after [`FIRST_ROUND`] at the latest; the first result of a host
    /// without either decides alone.
    pub async fn start(pools: &[Arc<Pool>]) -> Monitor {
        Monitor::start_within(FIRST_ROUND, pools).await
    }

    async fn start_within(limit: Duration, pools: &[Arc<Pool>]) -> Monitor {
        let mut tasks = JoinSet::new();
        // Nothing is ever said in this channel; it closes with the last check of the first round.
        let (unchecked, mut first_round) = mpsc::channel::<Infallible>(1);
        for pool in pools {
            let Some(check) = pool.health_check() else {
                continue;
            };
            let storm = Arc::new(Storm::new(pool));
            for (member, probe) in Probe::for_pool(pool, check).into_iter().enumerate() {
                let watch = Watch::new(Arc::clone(pool), Arc::clone(&storm), member, probe, check);
                let unchecked = (!watch.is_judged()).then(|| unchecked.clone());
                tasks.spawn(watch_over(watch, unchecked));
            }
        }
        drop(unchecked);
        if timeout(limit, first_round.recv()).await.is_err() {
            warn!(
                "hosts that have not been checked after {limit:?} serve after their first good check"
            );
        }
        for pool in pools {
            pool.begin();
            tasks.spawn(keep(Arc::clone(pool)));
        }
        Monitor { _tasks: tasks }
    }
}

/// Checks a host for ever, whatever happens in a check; `unchecked` is dropped once its first result is in.
async fn watch_over(mut watch: Watch, unchecked: Option<mpsc::Sender<Infallible>>) {
    let mut supervisor = Supervisor::new(Task::HealthCheck, watch.object());
    if unchecked.is_some() {
        while !watch.is_judged() {
            supervisor.watch(watch.judge()).await;
        }
        drop(unchecked);
    }
    loop {
        supervisor.watch(watch.run()).await;
    }
}

/// Keeps a pool in line for ever.
async fn keep(pool: Arc<Pool>) {
    let mut supervisor = Supervisor::new(Task::PoolKeeper, format!("pool {}", pool.name()));
    loop {
        supervisor.watch(keeper::keep(&pool)).await;
    }
}

#[cfg(test)]
mod tests;
