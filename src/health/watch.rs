//! The checks of one host, on its own schedule.

use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use tokio::time::{Instant, sleep_until};

use super::probe::Probe;
use super::reconcile::Reconciler;
use super::thresholds::Thresholds;
use crate::config::{HealthCheck, Initial};
use crate::pool::Verdict;

/// One host under watch.
#[derive(Debug)]
pub(super) struct Watch {
    reconciler: Arc<Reconciler>,
    /// The host's position in the pool.
    position: usize,
    probe: Probe,
    thresholds: Thresholds,
    interval: Duration,
    /// When the next check is due.
    due: Instant,
}

impl Watch {
    pub(super) fn new(
        reconciler: Arc<Reconciler>,
        position: usize,
        probe: Probe,
        check: &HealthCheck,
    ) -> Self {
        let up = (check.initial == Initial::Up).then_some(Verdict {
            healthy: true,
            against: 0,
        });
        let member = reconciler.member(position);
        let before = member.verdict().or(up);
        let now = Instant::now();
        // However often a pool is built anew, its hosts are checked no more often.
        let due = member.next_check().map(Instant::from_std);
        let due = due.map_or(now, |due| due.min(now + jittered(check.interval)));
        Watch {
            reconciler,
            position,
            probe,
            thresholds: Thresholds::new(check.rise, check.fall, before),
            interval: check.interval,
            due,
        }
    }

    /// Whether it is known what to do with the host before it has been checked here.
    pub(super) fn is_judged(&self) -> bool {
        self.thresholds.verdict().is_some()
    }

    /// Checks the host for ever; at once if it has never been.
    pub(super) async fn run(mut self) {
        loop {
            sleep_until(self.due).await;
            self.check().await;
        }
    }

    /// Checks the host once and passes a changed verdict on.
    pub(super) async fn check(&mut self) {
        let member = self.reconciler.member(self.position);
        let outcome = self.probe.run(member.host().address()).await;
        let change = self.thresholds.observe(outcome.is_ok());
        self.due = Instant::now() + jittered(self.interval);
        member.judge(self.thresholds.verdict());
        member.schedule(Some(self.due.into_std()));
        let Some(healthy) = change else {
            return;
        };
        let (pool, host) = (self.reconciler.pool().name(), member.host().id());
        match outcome {
            Ok(()) => info!("pool {pool}: host {host} is up"),
            Err(reason) => warn!("pool {pool}: host {host} is down: {reason}"),
        }
        self.reconciler.judge(self.position, healthy);
    }
}

/// `interval` shifted by up to a tenth, so that many checks do not stay in step.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.2 * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_tenth() {
        let interval = Duration::from_secs(10);
        for _ in 0..1_000 {
            let jittered = jittered(interval).as_secs_f64();
            assert!((9.0..=11.0).contains(&jittered), "{jittered}");
        }
    }
}
