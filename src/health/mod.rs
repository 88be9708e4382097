//! Active health checks: one task per host tries it on its own schedule and tells the pool, which draws the consequences;
//! one task per pool wakes it where time alone changes something.
//!
//! Pingora's own scheduler runs in passes, each of which waits for its slowest check, and takes hosts for healthy until
//! proven otherwise. Here no host waits for another, and none is used before it was proven.

mod keeper;
mod probe;
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
                let mut watch =
                    Watch::new(Arc::clone(pool), Arc::clone(&storm), member, probe, check);
                let unchecked = (!watch.is_judged()).then(|| unchecked.clone());
                tasks.spawn(async move {
                    if let Some(unchecked) = unchecked {
                        watch.check().await;
                        drop(unchecked);
                    }
                    watch.run().await;
                });
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
            tasks.spawn(keeper::keep(Arc::clone(pool)));
        }
        Monitor { _tasks: tasks }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;
    use std::time::Instant;

    use super::*;
    use crate::config::Config;
    use crate::pool::HostBook;

    #[tokio::test]
    async fn a_host_that_says_nothing_holds_up_the_first_round_no_longer_than_it_may() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let text = format!(
            "listeners: [\"127.0.0.1:1\"]
routes: [{{ path: /slow, pool: slow }}, {{ pool: quick }}]
pools:
  quick: {{ hosts: [\"{address}\"] }}
  slow: {{ hosts: [\"{address}\"], health_check: {{ type: http, timeout: 60s, interval: 60s }} }}
"
        );
        let config = Config::parse(&text, Path::new("test.yaml")).unwrap();
        let pools: Vec<_> = config
            .pools
            .iter()
            .map(|pool| Pool::new(pool, &config.timeouts, &mut HostBook::new()).unwrap())
            .map(Arc::new)
            .collect();
        let begun = Instant::now();
        let _monitor = Monitor::start_within(Duration::from_millis(300), &pools).await;
        assert!(begun.elapsed() < Duration::from_secs(30));
        for pool in pools {
            let host = &pool.members()[0];
            assert_eq!(host.is_usable(), pool.name() == "quick");
            assert_eq!(host.next_check().is_some(), pool.name() == "quick");
        }
    }
}
