//! Checks one host on its own schedule.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::check_permits;
use super::correlated_failure::CorrelatedFailure;
use super::probe::{CheckFailure, HealthProbe};
use super::thresholds::{CheckEvidence, Thresholds};
use crate::config::{HealthCheck, Initial};
use crate::event_log::EventKind;
use crate::pool::{CheckOutcome, CheckResult, HealthVerdict, Pool};
use crate::timestamp::Timestamp;

/// Timer ticks during a check: a process whose timers are late cannot judge hosts.
const TIMER_SAMPLES: u32 = 8;

/// A timer may be late by this fraction of the check's timeout, and by [`LATENESS`] in any case.
const LATENESS_PART: u32 = 4;
const LATENESS: Duration = Duration::from_millis(50);

/// The interval of attempts at a host's first check while this process lacks resources, unless checks are more
/// frequent.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Checks one host.
#[derive(Debug)]
pub(super) struct HostMonitor {
    pool: Arc<Pool>,
    correlated_failure: Arc<CorrelatedFailure>,
    /// The host's position in the pool.
    position: usize,
    probe: HealthProbe,
    thresholds: Thresholds,
    interval: Duration,
    timeout: Duration,
    /// When the next check is due.
    due: Instant,
    /// The host's count of successful requests at the latest check.
    successes: u64,
}

impl HostMonitor {
    pub(super) fn new(
        pool: Arc<Pool>,
        correlated_failure: Arc<CorrelatedFailure>,
        position: usize,
        probe: HealthProbe,
        check: &HealthCheck,
    ) -> Self {
        let up = (check.initial == Initial::Up).then_some(HealthVerdict {
            healthy: true,
            against: 0,
        });
        let member = &pool.members()[position];
        let before = member.verdict().or(up);
        let now = Instant::now();
        // A reload must not make checks of a host more frequent.
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

    /// Whether the host has a verdict, from a check or carried over.
    pub(super) fn has_verdict(&self) -> bool {
        self.thresholds.verdict().is_some()
    }

    /// A description of the host for logs.
    pub(super) fn description(&self) -> String {
        let host = self.pool.members()[self.position].host().id();
        format!("pool {}: host {host}", self.pool.name())
    }

    /// Checks the host at once, and repeats that until there is a verdict.
    pub(super) async fn check_until_verdict(&mut self) {
        loop {
            self.check().await;
            if self.has_verdict() {
                return;
            }
            sleep_until(self.due).await;
        }
    }

    /// Checks the host forever.
    pub(super) async fn run(&mut self) {
        loop {
            sleep_until(self.due).await;
            self.check().await;
        }
    }

    /// Checks the host once and reports the result to the pool.
    async fn check(&mut self) {
        let pool = Arc::clone(&self.pool);
        let member = &pool.members()[self.position];
        let _permit = check_permits::acquire().await;
        let check = self.probe.run(&member.peer()._address);
        let started = Instant::now();
        let (outcome, lateness) = timed(check, self.timeout).await;
        member.counters().count_check(check_outcome(&outcome));
        member.record_check(CheckResult {
            at: Timestamp::now(),
            good: outcome.is_ok(),
            reason: match &outcome {
                Ok(()) => "passed".to_owned(),
                Err(fault) => fault.to_string(),
            },
            took_ms: started.elapsed().as_secs_f64() * 1e3,
        });
        if let Err(CheckFailure::Resources(resource)) = &outcome {
            check_permits::warn_rate_limited(*resource);
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
            // The ejection may have had the same cause, which the checks have seen end.
            pool.uneject(member);
        }
        let host = Some(member.host().id());
        match outcome {
            Ok(()) => pool.log_event(EventKind::Up, host, "is up"),
            Err(fault) => pool.log_event(EventKind::Down, host, &format!("is down: {fault}")),
        }
        pool.reconcile_soon();
    }

    /// The time until the next check.
    fn pause(&self, outcome: &Result<(), CheckFailure>) -> Duration {
        match outcome {
            // The host cannot serve before its first result, and the shortage may end soon.
            Err(CheckFailure::Resources(_)) if !self.has_verdict() => {
                jittered(self.interval.min(RETRY_INTERVAL))
            }
            _ => jittered(self.interval * self.pool.check_stretch()),
        }
    }

    /// What the outcome of a check counts as.
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
        let tolerated = (self.timeout / LATENESS_PART).max(LATENESS);
        let starved = (slow && lateness > tolerated).then_some(lateness);
        let was_up = before.is_some_and(|verdict| verdict.healthy);
        let frozen = self
            .correlated_failure
            .report(self.position, slow && was_up, starved);
        match outcome {
            Ok(()) => CheckEvidence::Good,
            Err(CheckFailure::Failed(_)) => CheckEvidence::Bad,
            // A lack of resources in this process says nothing about the host, not even at its first check.
            Err(CheckFailure::Resources(_)) => CheckEvidence::None,
            // The first result alone decides, whatever the other hosts' checks show.
            Err(_) if before.is_none() => CheckEvidence::Bad,
            Err(CheckFailure::TimedOut(_)) if frozen || (alive && was_up) => CheckEvidence::None,
            Err(CheckFailure::TimedOut(_)) => CheckEvidence::Weak,
        }
    }
}

/// The outcome for the metrics.
fn check_outcome(outcome: &Result<(), CheckFailure>) -> CheckOutcome {
    match outcome {
        Ok(()) => CheckOutcome::Ok,
        Err(CheckFailure::Failed(_)) => CheckOutcome::Failed,
        Err(CheckFailure::TimedOut(_)) => CheckOutcome::TimedOut,
        Err(CheckFailure::Resources(_)) => CheckOutcome::Resources,
    }
}

/// Runs a check with a timeout of `limit`, and returns by how much the timers of this process were late meanwhile.
async fn timed<T>(check: impl Future<Output = T>, limit: Duration) -> (T, Duration) {
    let started = Instant::now();
    let pause = (limit / TIMER_SAMPLES).max(Duration::from_millis(1));
    let mut timer = interval_at(started + pause, pause);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lateness = Duration::ZERO;
    tokio::pin!(check);
    loop {
        tokio::select! {
            biased;
            outcome = &mut check => {
                let overrun = started.elapsed().saturating_sub(limit);
                return (outcome, lateness.max(overrun));
            }
            at = timer.tick() => lateness = lateness.max(at.elapsed()),
        }
    }
}

/// `interval` changed by up to a tenth, so that checks spread out.
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
    async fn a_blocked_process_notices_its_late_timers() {
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
