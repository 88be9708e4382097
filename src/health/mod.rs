//! Active health checks: one task per host tries it on its own schedule and tells the pool, which draws the consequences;
//! one task per pool wakes it where time alone changes something.
//!
//! Pingora's own scheduler runs in passes, each of which waits for its slowest check, and takes hosts for healthy until
//! proven otherwise. Here no host waits for another, and none is used before it was proven.

mod check_permits;
mod correlated_failure;
mod ejection_timer;
mod host_monitor;
mod probe;
mod thresholds;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::pool::Pool;
use crate::supervisor::{Supervisor, Task};

use correlated_failure::CorrelatedFailure;
use host_monitor::HostMonitor;
use probe::Probe;

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
            let correlated_failure = Arc::new(CorrelatedFailure::new(pool));
            for (member, probe) in Probe::for_pool(pool, check).into_iter().enumerate() {
                let watch = HostMonitor::new(
                    Arc::clone(pool),
                    Arc::clone(&correlated_failure),
                    member,
                    probe,
                    check,
                );
                let unchecked = (!watch.has_verdict()).then(|| unchecked.clone());
                tasks.spawn(monitor_host(watch, unchecked));
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
            tasks.spawn(run_ejection_timer(Arc::clone(pool)));
        }
        Monitor { _tasks: tasks }
    }
}

/// Checks a host for ever, whatever happens in a check; `unchecked` is dropped once its first result is in.
async fn monitor_host(mut watch: HostMonitor, unchecked: Option<mpsc::Sender<Infallible>>) {
    let mut supervisor = Supervisor::new(Task::HealthCheck, watch.object());
    if unchecked.is_some() {
        while !watch.has_verdict() {
            supervisor.run(watch.check_until_verdict()).await;
        }
        drop(unchecked);
    }
    loop {
        supervisor.run(watch.run()).await;
    }
}

/// Keeps a pool in line for ever.
async fn run_ejection_timer(pool: Arc<Pool>) {
    let mut supervisor = Supervisor::new(Task::PoolKeeper, format!("pool {}", pool.name()));
    loop {
        supervisor.run(ejection_timer::run(&pool)).await;
    }
}

#[cfg(test)]
mod tests;
