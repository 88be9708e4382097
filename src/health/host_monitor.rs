//! The checks of one host, on its own schedule.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::check_permits;
use super::correlated_failure::CorrelatedFailure;
use super::probe::{CheckFailure, Probe};
use super::thresholds::{CheckEvidence, Thresholds};
use crate::config::{HealthCheck, Initial};
use crate::event_log::EventKind;
use crate::pool::{CheckOutcome, CheckResult, HealthVerdict, Pool};
use crate::timestamp::Timestamp;

/// Looks at the clock during a check: a process that cannot even do that in time cannot judge others.
const TIMER_SAMPLES: u32 = 8;

/// A timer may be late by this part of the check's timeout, and by [`LATENESS`] in any case.
const LATENESS_PART: u32 = 4;
const LATENESS: Duration = Duration::from_millis(50);

/// When the first check of a host that could not be tried is tried again, unless checks are due more often.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// One host under watch.
#[derive(Debug)]
pub(super) struct HostMonitor {
    pool: Arc<Pool>,
    correlated_failure: Arc<CorrelatedFailure>,
    /// The host's position in the pool.
    position: usize,
    probe: Probe,
    thresholds: Thresholds,
    interval: Duration,
    timeout: Duration,
    /// When the next check is due.
    due: Instant,
    /// Requests that the host had answered well by the latest check.
    successes: u64,
}

impl HostMonitor {
    pub(super) fn new(
        pool: Arc<Pool>,
        correlated_failure: Arc<CorrelatedFailure>,
        position: usize,
        probe: Probe,
        check: &HealthCheck,
    ) -> Self {
        let up = (check.initial == Initial::Up).then_some(HealthVerdict {
            healthy: true,
            against: 0,
        });
        let member = &pool.members()[position];
        let before = member.verdict().or(up);
        let now = Instant::now();
        // However often a pool is built anew, its hosts are checked no more often.
        let due = member.next_check().map(Instant::from_std);
        let due = due.map_or(now, |due| due.min(now + jittered(check.interval)));
        HostMonitor {
            pool,
            correlated_failure,
            position,
            probe,
            thresholds: Thresholds::new(check.rise, check.fall, before),
            interval: check.interval,
            timeout: check.timeout,
            due,
            successes: 0,
        }
    }

    /// Whether it is known what to do with the host before it has been checked here.
    pub(super) fn has_verdict(&self) -> bool {
        self.thresholds.verdict().is_some()
    }

    /// What is watched, in words.
    pub(super) fn object(&self) -> String {
        let host = self.pool.members()[self.position].host().id();
        format!("pool {}: host {host}", self.pool.name())
    }

    /// Checks the host at once, and then until it is known what to do with it.
    pub(super) async fn check_until_verdict(&mut self) {
        loop {
            self.check().await;
            if self.has_verdict() {
                return;
            }
            sleep_until(self.due).await;
        }
    }

    /// Checks the host for ever.
    pub(super) async fn run(&mut self) {
        loop {
            sleep_until(self.due).await;
            self.check().await;
        }
    }

    /// Checks the host once and tells the pool.
    async fn check(&mut self) {
        let pool = Arc::clone(&self.pool);
        let member = &pool.members()[self.position];
        let _permit = check_permits::acquire().await;
        let check = self.probe.run(member.host().address());
        let begun = Instant::now();
        let (outcome, lateness) = timed(check, self.timeout).await;
        member.counters().count_check(counted(&outcome));
        member.record_check(CheckResult {
            at: Timestamp::now(),
            good: outcome.is_ok(),
            reason: match &outcome {
                Ok(()) => "passed".to_owned(),
                Err(fault) => fault.to_string(),
            },
            took_ms: begun.elapsed().as_secs_f64() * 1e3,
        });
        if let Err(CheckFailure::Resources(lacking)) = &outcome {
            check_permits::warn_rate_limited(*lacking);
        }
        self.due = Instant::now() + self.pause(&outcome);
        member.set_next_check(Some(self.due.into_std()));

        let before = self.thresholds.verdict();
        let evidence = self.evidence_of(&outcome, lateness, before, member.successes());
        let change = self.thresholds.observe(evidence);
        member.set_verdict(self.thresholds.verdict());
        let Some(healthy) = change else {
            return;
        };
        if healthy && before.is_some() {
            // It may have been ejected for what the checks have seen, too, and have seen end.
            pool.uneject(member);
        }
        let host = Some(member.host().id());
        match outcome {
            Ok(()) => pool.log_event(EventKind::Up, host, "is up"),
            Err(fault) => pool.log_event(EventKind::Down, host, &format!("is down: {fault}")),
        }
        pool.reconcile();
    }

    /// How long after a check the next one is due.
    fn pause(&self, outcome: &Result<(), CheckFailure>) -> Duration {
        match outcome {
            // The host is of no use before its first result, and the shortage may be over any moment.
            Err(CheckFailure::Resources(_)) if !self.has_verdict() => {
                jittered(self.interval.min(RETRY_INTERVAL))
            }
            _ => jittered(self.interval),
        }
    }

    /// What the outcome of a check is worth.
    fn evidence_of(
        &mut self,
        outcome: &Result<(), CheckFailure>,
        lateness: Duration,
        before: Option<HealthVerdict>,
        successes: u64,
    ) -> CheckEvidence {
        let alive = successes > self.successes;
        self.successes = successes;
        let slow = matches!(outcome, Err(CheckFailure::TimedOut(_)));
        let most = (self.timeout / LATENESS_PART).max(LATENESS);
        let starved = (slow && lateness > most).then_some(lateness);
        let was_up = before.is_some_and(|verdict| verdict.healthy);
        let frozen = self
            .correlated_failure
            .report(self.position, slow && was_up, starved);
        match outcome {
            Ok(()) => CheckEvidence::Good,
            Err(CheckFailure::Failed(_)) => CheckEvidence::Bad,
            // What this process lacks says nothing about a host, at its first check as at any other.
            Err(CheckFailure::Resources(_)) => CheckEvidence::None,
            // The first result of a host decides alone, whatever the others do.
            Err(_) if before.is_none() => CheckEvidence::Bad,
            Err(CheckFailure::TimedOut(_)) if frozen || (alive && was_up) => CheckEvidence::None,
            Err(CheckFailure::TimedOut(_)) => CheckEvidence::Weak,
        }
    }
}

/// What an outcome is counted as.
fn counted(outcome: &Result<(), CheckFailure>) -> CheckOutcome {
    match outcome {
        Ok(()) => CheckOutcome::Ok,
        Err(CheckFailure::Failed(_)) => CheckOutcome::Failed,
        Err(CheckFailure::TimedOut(_)) => CheckOutcome::TimedOut,
        Err(CheckFailure::Resources(_)) => CheckOutcome::Resources,
    }
}

/// Runs a check that should take `limit` at most, and tells by how much the timers of this process were late meanwhile.
async fn timed<T>(check: impl Future<Output = T>, limit: Duration) -> (T, Duration) {
    let begun = Instant::now();
    let pause = (limit / TIMER_SAMPLES).max(Duration::from_millis(1));
    let mut timer = interval_at(begun + pause, pause);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lateness = Duration::ZERO;
    tokio::pin!(check);
    loop {
        tokio::select! {
            biased;
            outcome = &mut check => {
                let beyond = begun.elapsed().saturating_sub(limit);
                return (outcome, lateness.max(beyond));
            }
            at = timer.tick() => lateness = lateness.max(at.elapsed()),
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

    #[tokio::test]
    async fn a_process_that_is_held_up_notices() {
        let (_, lateness) = timed(
            async {
                std::thread::sleep(Duration::from_millis(80));
            },
            Duration::from_millis(20),
        )
        .await;
        assert!(lateness >= Duration::from_millis(60), "{lateness:?}");
    }
}
