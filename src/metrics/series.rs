//! Counters of requests and attempts. They are independent of each other, so relaxed ordering suffices.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::Histogram;
use crate::pool::Failure;
use crate::record::{Attempt, AttemptOutcome, RequestRecord};

/// The values of the label `code`: the client's status if alerts depend on it, otherwise its class, so that each
/// request has one value and their number is bounded. `none`: no status, or one out of range.
pub(super) const CODES: [&str; 11] = [
    "none", "1xx", "2xx", "3xx", "4xx", "5xx", "429", "500", "502", "503", "504",
];

/// The values of the label `reason` of attempts.
pub(super) const REASONS: [&str; 10] = [
    "ok",
    "connect",
    "timeout",
    "reset",
    "malformed",
    "status",
    "stale",
    "resources",
    "client",
    "internal",
];

/// The range of [`REASONS`] that are failures of the host.
const HOST_FAILURES: RangeInclusive<usize> = 1..=5;

/// A counter that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters of requests that have ended.
#[derive(Debug, Default)]
pub(super) struct RequestSeries {
    by_code: [Counter; CODES.len()],
    pub(super) duration: Histogram,
}

impl RequestSeries {
    pub(super) fn count(&self, record: &RequestRecord<'_>) {
        self.by_code[code_index(record.summary.status)].add(1);
        self.duration.observe(record.summary.duration);
    }

    /// Adds the counts of another series.
    fn merge(&self, others: &RequestSeries) {
        merge(&self.by_code, &others.by_code);
        self.duration.merge(&others.duration);
    }

    /// The number of requests.
    pub(super) fn total(&self) -> u64 {
        self.by_code.iter().map(Counter::get).sum()
    }

    /// Each code with its number of requests.
    pub(super) fn by_code(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.by_code.iter().map(Counter::get);
        CODES.into_iter().zip(counts)
    }
}

/// The counters of a host in a pool.
#[derive(Debug, Default)]
pub(super) struct HostSeries {
    /// Requests whose last attempt was on this host.
    pub(super) requests: RequestSeries,
    attempts: [Counter; REASONS.len()],
    /// The time to establish new connections.
    pub(super) connect: Histogram,
    /// The time to the head of the response.
    pub(super) first_byte: Histogram,
}

impl HostSeries {
    pub(super) fn count(&self, attempt: &Attempt) {
        if let Some(number) = reason_index(attempt.outcome) {
            self.attempts[number].add(1);
        }
        // A reused connection has no meaningful connect time.
        if let (Some(connected), false) = (attempt.connect_time, attempt.reused) {
            self.connect.observe(connected);
        }
        if let Some(latency) = attempt.first_byte {
            self.first_byte.observe(latency);
        }
    }

    /// Adds the counts of another host.
    pub(super) fn merge(&self, other: &HostSeries) {
        self.requests.merge(&other.requests);
        merge(&self.attempts, &other.attempts);
        self.connect.merge(&other.connect);
        self.first_byte.merge(&other.first_byte);
    }

    /// Failed attempts.
    pub(super) fn failures(&self) -> u64 {
        self.attempts[HOST_FAILURES].iter().map(Counter::get).sum()
    }

    /// Each reason with its number of attempts.
    pub(super) fn attempts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.attempts.iter().map(Counter::get);
        REASONS.into_iter().zip(counts)
    }
}

fn merge(into: &[Counter], others: &[Counter]) {
    for (count, other) in into.iter().zip(others) {
        count.add(other.get());
    }
}

/// The position in [`CODES`].
fn code_index(status: Option<u16>) -> usize {
    match status {
        Some(429) => 6,
        Some(500) => 7,
        Some(502) => 8,
        Some(503) => 9,
        Some(504) => 10,
        Some(status @ 100..=599) => usize::from(status / 100),
        _ => 0,
    }
}

/// The position in [`REASONS`]; `None` while the attempt runs.
fn reason_index(reason: AttemptOutcome) -> Option<usize> {
    Some(match reason {
        AttemptOutcome::Running => return None,
        AttemptOutcome::Ok => 0,
        AttemptOutcome::Failed(Failure::Connect) => 1,
        AttemptOutcome::Failed(Failure::Timeout) => 2,
        AttemptOutcome::Failed(Failure::Reset) => 3,
        AttemptOutcome::Failed(Failure::Malformed) => 4,
        AttemptOutcome::Failed(Failure::Status(_)) => 5,
        AttemptOutcome::Stale => 6,
        AttemptOutcome::Resources => 7,
        AttemptOutcome::Client => 8,
        AttemptOutcome::Internal => 9,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_label() {
        let failures = [
            Failure::Connect,
            Failure::Timeout,
            Failure::Reset,
            Failure::Malformed,
            Failure::Status(503),
        ];
        let reasons = [
            AttemptOutcome::Ok,
            AttemptOutcome::Stale,
            AttemptOutcome::Resources,
            AttemptOutcome::Client,
            AttemptOutcome::Internal,
        ];
        let reasons = reasons
            .into_iter()
            .chain(failures.map(AttemptOutcome::Failed))
            .collect::<Vec<_>>();
        assert_eq!(reasons.len(), REASONS.len());
        for reason in reasons {
            let label = reason_index(reason).map(|number| REASONS[number]);
            assert_eq!(label, Some(reason.code()));
            let is_host_failure =
                reason_index(reason).is_some_and(|number| HOST_FAILURES.contains(&number));
            assert_eq!(
                is_host_failure,
                matches!(reason, AttemptOutcome::Failed(_)),
                "{reason:?}"
            );
        }
        assert_eq!(reason_index(AttemptOutcome::Running), None);
    }

    #[test]
    fn every_status_has_its_code() {
        for (status, expected) in [
            (None, "none"),
            (Some(0), "none"),
            (Some(99), "none"),
            (Some(101), "1xx"),
            (Some(200), "2xx"),
            (Some(304), "3xx"),
            (Some(404), "4xx"),
            (Some(429), "429"),
            (Some(499), "4xx"),
            (Some(500), "500"),
            (Some(501), "5xx"),
            (Some(502), "502"),
            (Some(503), "503"),
            (Some(504), "504"),
            (Some(505), "5xx"),
            (Some(599), "5xx"),
            (Some(600), "none"),
        ] {
            assert_eq!(CODES[code_index(status)], expected, "{status:?}");
        }
    }
}
