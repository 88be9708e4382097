//! When failing hosts are ejected, for how long, and when they are probed, in the terms of the configuration's `ejection`.
//!
//! A simulated host fails each request or none, so what counts is the number of failures in a row: `consecutive`, or
//! `min_requests` where only `rate` is on.

use std::time::Duration;

use crate::config::Ejection;
use crate::pool::{ejection_time, may_eject};

/// What an outcome changes for its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EjectionChange {
    /// It leaves the hosts that are picked from.
    Ejected,
    /// It comes back.
    Readmitted,
}

/// The ejections of a pool. Times are nanoseconds.
#[derive(Debug)]
pub(super) struct Ejections {
    policy: Option<Ejection>,
    /// Failures in a row that eject a host; `None`: none is ejected.
    threshold: Option<u32>,
    hosts: Vec<HostEjection>,
    /// Hosts that do not serve.
    ejected: usize,
}

#[derive(Debug, Clone, Copy)]
struct HostEjection {
    stage: Stage,
    failures: u32,
    /// Ejections without a long time of serving in between.
    ejections: u32,
    /// When it came back from the last one.
    serving_since: Option<u64>,
    /// All ejections.
    total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    Ejected { until: u64 },
    Probing,
}

impl Ejections {
    pub(super) fn new(policy: Option<Ejection>, hosts: usize) -> Self {
        let threshold = policy.as_ref().and_then(|policy| {
            let rate = policy.rate.map(|_| policy.min_requests);
            [policy.consecutive, rate].into_iter().flatten().min()
        });
        let host = HostEjection {
            stage: Stage::Serving,
            failures: 0,
            ejections: 0,
            serving_since: None,
            total: 0,
        };
        Ejections {
            policy,
            threshold,
            hosts: vec![host; hosts],
            ejected: 0,
        }
    }

    /// How often a host was ejected.
    pub(super) fn total(&self, host: usize) -> u64 {
        self.hosts[host].total
    }

    /// The first host whose ejection is over, and which waits for a request to probe it.
    pub(super) fn probe_due(&self, now: u64) -> Option<usize> {
        if self.ejected == 0 {
            return None;
        }
        let is_due =
            |host: &HostEjection| matches!(host.stage, Stage::Ejected { until } if until <= now);
        self.hosts.iter().position(is_due)
    }

    /// The next request of the host is its probe.
    pub(super) fn begin_probe(&mut self, host: usize) {
        self.hosts[host].stage = Stage::Probing;
    }

    /// Records the outcome of a request.
    pub(super) fn observe(
        &mut self,
        now: u64,
        host: usize,
        succeeded: bool,
        is_probe: bool,
    ) -> Option<EjectionChange> {
        let (threshold, may_eject) = (self.threshold?, self.may_eject_one());
        let policy = self.policy.as_ref()?;
        let state = &mut self.hosts[host];
        match (state.stage, is_probe, succeeded) {
            (Stage::Probing, true, true) => {
                state.stage = Stage::Serving;
                state.failures = 0;
                state.serving_since = Some(now);
                self.ejected -= 1;
                Some(EjectionChange::Readmitted)
            }
            (Stage::Probing, true, false) => {
                state.eject(now, policy);
                None
            }
            (Stage::Serving, _, true) => {
                state.failures = 0;
                None
            }
            (Stage::Serving, _, false) => {
                state.failures += 1;
                if state.failures < threshold {
                    return None;
                }
                state.failures = 0;
                if !may_eject {
                    return None;
                }
                state.eject(now, policy);
                self.ejected += 1;
                Some(EjectionChange::Ejected)
            }
            // Requests that the host got before its ejection.
            (Stage::Ejected { .. } | Stage::Probing, ..) => None,
        }
    }

    /// Whether one more host may be ejected.
    fn may_eject_one(&self) -> bool {
        let Some(policy) = &self.policy else {
            return false;
        };
        let (hosts, ejected) = (self.hosts.len(), self.ejected);
        // The host that is asked about serves; those beside it that are not ejected are usable.
        may_eject(
            policy.max_ejected,
            hosts,
            ejected,
            hosts.saturating_sub(ejected + 1),
        )
    }
}

impl HostEjection {
    /// Begins an ejection, which lasts twice as long as the one before.
    fn eject(&mut self, now: u64, policy: &Ejection) {
        let served = self.serving_since.take().map(|since| now - since);
        if served.is_some_and(|served| served >= nanos(policy.max)) {
            self.ejections = 0;
        }
        let time = ejection_time(policy, self.ejections);
        self.ejections = self.ejections.saturating_add(1);
        self.total += 1;
        let until = now.saturating_add(nanos(time));
        self.stage = Stage::Ejected { until };
    }
}

/// Nanoseconds of a time, saturating.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::pool;

    const SECOND: u64 = 1_000_000_000;

    fn ejections(keys: &str, hosts: usize) -> Ejections {
        Ejections::new(pool(2, keys).ejection, hosts)
    }

    #[test]
    fn a_failing_host_is_ejected_for_ever_longer_until_a_probe_succeeds() {
        let mut ejections = ejections("ejection: { base: 10s, max: 30s }", 3);
        for _ in 0..4 {
            assert_eq!(ejections.observe(0, 1, false, false), None);
        }
        let change = ejections.observe(0, 1, false, false);
        assert_eq!(change, Some(EjectionChange::Ejected));
        assert_eq!(ejections.observe(1, 1, false, false), None);
        let mut now = 0;
        for seconds in [10, 20, 30, 30] {
            now += seconds * SECOND;
            assert_eq!(ejections.probe_due(now - 1), None);
            assert_eq!(ejections.probe_due(now), Some(1));
            ejections.begin_probe(1);
            assert_eq!(ejections.probe_due(now), None);
            assert_eq!(ejections.observe(now, 1, false, true), None);
        }
        now += 30 * SECOND;
        ejections.begin_probe(1);
        let change = ejections.observe(now, 1, true, true);
        assert_eq!(change, Some(EjectionChange::Readmitted));
        assert_eq!(ejections.total(1), 5);
        assert_eq!(ejections.probe_due(u64::MAX), None);
    }

    #[test]
    fn half_of_the_hosts_and_the_last_one_stay() {
        let mut four = ejections("ejection: { consecutive: 1 }", 4);
        let changes = [0, 1, 2, 3].map(|host| four.observe(0, host, false, false));
        let ejected = Some(EjectionChange::Ejected);
        assert_eq!(changes, [ejected, ejected, None, None]);
        let mut one = ejections("ejection: { consecutive: 1 }", 1);
        assert_eq!(one.observe(0, 0, false, false), None);
    }

    #[test]
    fn what_is_off_ejects_nobody() {
        let mut none = ejections("ejection: none", 3);
        let mut rate = ejections("ejection: { consecutive: 0, min_requests: 7 }", 3);
        let changes = Vec::from_iter((0..100).map(|_| none.observe(0, 0, false, false)));
        assert!(changes.iter().all(Option::is_none));
        let ejected = (1..=100).find(|_| rate.observe(0, 0, false, false).is_some());
        assert_eq!(ejected, Some(7));
    }
}
