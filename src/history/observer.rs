//! Counts requests as they end: their duration, by the class of their status.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::record::{Observer, RequestRecord};

use super::latency_histogram::{LatencyHistogram, LatencySnapshot};

/// Classes of statuses; 0 means no status.
pub(super) const CLASSES: usize = 6;

/// The classes with durations. The lifetime of a tunnel says nothing about a host's latency.
const TIMED: std::ops::RangeInclusive<usize> = 2..=5;

/// The requests of a pool since they were last taken. Each class has its own histogram, so one addition counts both.
#[derive(Debug, Default)]
pub(super) struct PoolObserver {
    timed: [LatencyHistogram; 4],
    /// Requests without a status, and those that switched protocols.
    others: [AtomicU64; 2],
}

impl PoolObserver {
    pub(super) fn count(&self, record: &RequestRecord<'_>) {
        let class = class(record.summary.status);
        match class {
            0 | 1 => {
                self.others[class].fetch_add(1, Ordering::Relaxed);
            }
            _ => self.timed[class - TIMED.start()].count(record.summary.duration),
        }
    }

    /// Takes all counts: requests by class, and the durations of those that are timed.
    pub(super) fn take(&self) -> ([u64; CLASSES], LatencySnapshot) {
        let mut taken = LatencySnapshot::default();
        let counts = std::array::from_fn(|class| match class {
            0 | 1 => self.others[class].swap(0, Ordering::Relaxed),
            _ => self.timed[class - TIMED.start()].take(&mut taken),
        });
        (counts, taken)
    }
}

/// The class of a status; 0 if there is none, or it is out of range.
fn class(status: Option<u16>) -> usize {
    match status {
        Some(status @ 100..=599) => usize::from(status / 100),
        _ => 0,
    }
}

/// Counts requests by the index of their pool.
#[derive(Debug)]
pub(super) struct HistoryObserver(pub(super) Vec<Arc<PoolObserver>>);

impl Observer for HistoryObserver {
    fn on_request_end(&self, record: &RequestRecord<'_>) {
        let observer = record.pool.and_then(|(number, _)| self.0.get(number));
        if let Some(observer) = observer {
            observer.count(record);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::record::TerminationReason;

    #[test]
    fn each_status_is_counted_in_its_class_and_timed_unless_it_is_a_tunnel() {
        let observer = PoolObserver::default();
        let statuses = [
            None,
            Some(101),
            Some(200),
            Some(200),
            Some(302),
            Some(404),
            Some(503),
            Some(999),
        ];
        for status in statuses {
            let record = RequestRecord::without_head(
                Instant::now(),
                None,
                false,
                status,
                0,
                TerminationReason::ALL[0],
            );
            observer.count(&record);
        }
        let (counts, taken) = observer.take();
        assert_eq!(counts, [2, 1, 2, 1, 1, 1]);
        assert!(taken.quantile(0.5).is_some());
        let (counts, taken) = observer.take();
        assert_eq!(counts, [0; CLASSES]);
        assert_eq!(taken.quantile(0.5), None);
        observer.count(&RequestRecord::without_head(
            Instant::now(),
            None,
            false,
            Some(101),
            0,
            TerminationReason::ALL[0],
        ));
        assert_eq!(observer.take().1.quantile(0.5), None);
    }
}
