//! The checks of one host, on its own schedule.

use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};

use super::probe::Probe;
use super::thresholds::Thresholds;
use crate::config::{HealthCheck, Initial};
use crate::pool::{Pool, Verdict};

/// One host under watch.
#[derive(Debug)]
pub(super) struct Watch {
    pool: Arc<Pool>,
    /// The host's position in the pool.
    position: usize,
    probe: Probe,
    thresholds: Thresholds,
    interval: Duration,
    checked: bool,
}

impl Watch {
    pub(super) fn new(pool: Arc<Pool>, position: usize, probe: Probe, check: &HealthCheck) -> Self {
        let up = (check.initial == Initial::Up).then_some(Verdict {
            healthy: true,
            against: 0,
        });
        let before = pool.members()[position].verdict().or(up);
        Watch {
            pool,
            position,
            probe,
            thresholds: Thresholds::new(check.rise, check.fall, before),
            interval: check.interval,
            checked: false,
        }
    }

    /// Whether it is known what to do with the host before it has been checked here.
    pub(super) fn is_judged(&self) -> bool {
        self.thresholds.verdict().is_some()
    }

    /// Checks the host for ever; at once if it has never been.
    pub(super) async fn run(mut self) {
        loop {
            if self.checked {
                tokio::time::sleep(jittered(self.interval)).await;
            }
            self.check().await;
            self.pool.reconcile();
        }
    }

    /// Checks the host once and notes the verdict; the pool is still to be brought in line.
    pub(super) async fn check(&mut self) {
        self.checked = true;
        let member = &self.pool.members()[self.position];
        let known_down = self
            .thresholds
            .verdict()
            .is_some_and(|verdict| !verdict.healthy);
        let outcome = self.probe.run(member.host().address()).await;
        let change = self.thresholds.observe(outcome.is_ok());
        member.judge(self.thresholds.verdict());
        let Some(healthy) = change else {
            return;
        };
        if healthy && known_down {
            // It may have been ejected for what the checks have seen, too, and have seen end.
            self.pool.pardon(member);
        }
        let (pool, host) = (self.pool.name(), member.host().id());
        match outcome {
            Ok(()) => info!("pool {pool}: host {host} is up"),
            Err(reason) => warn!("pool {pool}: host {host} is down: {reason}"),
        }
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
