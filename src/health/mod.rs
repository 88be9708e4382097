//! Active health checks: one task per host checks it on its own schedule and reports the result to the pool; one task
//! per pool applies changes that come by time alone.
//!
//! Pingora's own scheduler runs in passes that wait for the slowest check, and it assumes that hosts are healthy until
//! a check fails. Here no host waits for another, and none is used before its first successful check.

mod check_permits;
mod correlated_failure;
mod ejection_timer;
mod grpc_check;
mod host_monitor;
mod http_check;
mod probe;
mod tcp_check;
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
use probe::HealthProbe;

/// How long a start or a reload waits for the first round of checks.
pub const FIRST_ROUND: Duration = Duration::from_secs(10);

/// The running checks of a set of pools. Dropping it stops them.
#[derive(Debug)]
pub struct Monitor {
    _tasks: JoinSet<()>,
}

impl Monitor {
    /// Starts the checks. Returns when every host of `pools` has been checked once, at the latest after
    /// [`FIRST_ROUND`]. Hosts with `initial: up` or a verdict that was carried over are not waited for. For a host
    /// without either, the first result alone decides.
    pub async fn start(pools: &[Arc<Pool>]) -> Monitor {
        Monitor::start_within(FIRST_ROUND, pools).await
    }

    /// Starts the checks without waiting for any. Hosts without a verdict serve after their first successful check.
    pub fn start_now(pools: &[Arc<Pool>]) -> Monitor {
        let (mut tasks, _) = spawn_checks(pools);
        begin(pools, &mut tasks);
        Monitor { _tasks: tasks }
    }

    async fn start_within(limit: Duration, pools: &[Arc<Pool>]) -> Monitor {
        let (mut tasks, mut first_round) = spawn_checks(pools);
        if timeout(limit, first_round.recv()).await.is_err() {
            warn!(
                "hosts that have not been checked after {limit:?} serve after their first successful check"
            );
        }
        begin(pools, &mut tasks);
        Monitor { _tasks: tasks }
    }
}

/// The checks of all hosts of `pools`. Nothing is ever sent through the channel; it closes with the last check of the first
/// round.
fn spawn_checks(pools: &[Arc<Pool>]) -> (JoinSet<()>, mpsc::Receiver<Infallible>) {
    let mut tasks = JoinSet::new();
    let (unchecked, first_round) = mpsc::channel::<Infallible>(1);
    for pool in pools {
        let Some(check) = pool.health_check() else {
            continue;
        };
        let correlated_failure = Arc::new(CorrelatedFailure::new(pool));
        for (member, probe) in HealthProbe::for_pool(pool, check).into_iter().enumerate() {
            let monitor = HostMonitor::new(
                Arc::clone(pool),
                Arc::clone(&correlated_failure),
                member,
                probe,
                check,
            );
            let unchecked = (!monitor.has_verdict()).then(|| unchecked.clone());
            tasks.spawn(monitor_host(monitor, unchecked));
        }
    }
    (tasks, first_round)
}

/// Puts the healthy hosts into service.
fn begin(pools: &[Arc<Pool>], tasks: &mut JoinSet<()>) {
    for pool in pools {
        pool.begin();
        tasks.spawn(run_ejection_timer(Arc::clone(pool)));
    }
}

/// Checks a host forever, even if a check panics. `unchecked` is dropped after the host's first result.
async fn monitor_host(mut monitor: HostMonitor, unchecked: Option<mpsc::Sender<Infallible>>) {
    let mut supervisor = Supervisor::new(Task::HealthCheck, monitor.description());
    if unchecked.is_some() {
        while !monitor.has_verdict() {
            supervisor.run(monitor.check_until_verdict()).await;
        }
        drop(unchecked);
    }
    loop {
        supervisor.run(monitor.run()).await;
    }
}

/// Reconciles a pool at the end of each ejection, forever.
async fn run_ejection_timer(pool: Arc<Pool>) {
    let mut supervisor = Supervisor::new(Task::EjectionTimer, format!("pool {}", pool.name()));
    loop {
        supervisor.run(ejection_timer::run(&pool)).await;
    }
}

#[cfg(test)]
mod tests;
