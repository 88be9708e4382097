//! Counters of the requests of a pool.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{CopyCounters, RequestCounts};
use crate::grpc_status::GrpcStatus;

/// Classes of statuses: 1xx to 5xx, and 0 for no status or one out of range.
pub const STATUS_CLASSES: usize = 6;

/// Counters of a pool's requests, which the status, the history and the metrics read. They only grow and survive a
/// rebuild of the pool. No counter depends on another, so relaxed ordering suffices.
#[derive(Debug, Default)]
pub struct PoolCounters {
    responses: [AtomicU64; STATUS_CLASSES],
    errors: AtomicU64,
    retries: AtomicU64,
    denied_retries: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    copies: OnceLock<Arc<CopyCounters>>,
    /// By the number of the status. Not there without a call.
    grpc: OnceLock<Box<[AtomicU64; GrpcStatus::COUNT]>>,
}

/// A request of a client that has ended, however many attempts it had.
#[derive(Debug, Clone, Copy)]
pub struct CountedRequest {
    /// The status that the client received; `None` if it received no response.
    pub status: Option<u16>,
    /// Whether it ended in a 5xx or without a complete response, through no fault of the client.
    pub is_failure: bool,
    /// The number of its attempts at hosts.
    pub attempts: usize,
    /// Body bytes of the request.
    pub received: u64,
    /// Body bytes of the response.
    pub sent: u64,
}

/// The values of a pool's counters since the process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolTotals {
    /// Requests that have ended, by the class of the client's status: 0 for none, then 1xx to 5xx.
    pub responses: [u64; STATUS_CLASSES],
    /// Requests that failed; see [`CountedRequest::is_failure`].
    pub errors: u64,
    /// Attempts beyond the first of each request.
    pub retries: u64,
    /// Retries that the budget denied.
    pub denied_retries: u64,
    /// Body bytes of requests.
    pub received: u64,
    /// Body bytes of responses.
    pub sent: u64,
}

impl PoolCounters {
    /// Counts a request. It must not be counted before.
    pub fn count(&self, request: CountedRequest) {
        self.responses[class_of(request.status)].fetch_add(1, Ordering::Relaxed);
        let retries = request.attempts.saturating_sub(1) as u64;
        for (counter, more) in [
            (&self.errors, u64::from(request.is_failure)),
            (&self.retries, retries),
            (&self.received, request.received),
            (&self.sent, request.sent),
        ] {
            // Many requests have no body, and concurrent writes to one cache line are slow.
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    /// Counts a call of gRPC, which is also counted as a request.
    pub fn count_grpc(&self, status: GrpcStatus) {
        let counters = self.grpc.get_or_init(Box::default);
        counters[usize::from(status.number())].fetch_add(1, Ordering::Relaxed);
    }

    /// Calls of gRPC that have ended with a status, by that status; empty before the first.
    pub fn grpc(&self) -> impl Iterator<Item = (GrpcStatus, u64)> {
        let counters = self.grpc.get().into_iter().flat_map(|counters| &**counters);
        let counts = counters.map(|counter| counter.load(Ordering::Relaxed));
        GrpcStatus::all().zip(counts)
    }

    pub(super) fn count_denied_retry(&self) {
        self.denied_retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counters of the copies that the pool gets; `None` if no route has sent it any since the process began.
    pub fn copies(&self) -> Option<&Arc<CopyCounters>> {
        self.copies.get()
    }

    /// The same for a pool that gets copies.
    pub(crate) fn enable_copies(&self) -> &Arc<CopyCounters> {
        self.copies.get_or_init(Arc::default)
    }

    /// The current values.
    pub fn totals(&self) -> PoolTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PoolTotals {
            responses: self.responses.each_ref().map(read),
            errors: read(&self.errors),
            retries: read(&self.retries),
            denied_retries: read(&self.denied_retries),
            received: read(&self.received),
            sent: read(&self.sent),
        }
    }

    /// All requests and the failed ones.
    pub(super) fn counts(&self) -> RequestCounts {
        let totals = self.totals();
        RequestCounts {
            requests: totals.responses.iter().sum(),
            errors: totals.errors,
        }
    }
}

/// The class of a status.
fn class_of(status: Option<u16>) -> usize {
    match status {
        Some(status @ 100..=599) => usize::from(status / 100),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_counted_once_in_the_class_of_its_status() {
        let counters = PoolCounters::default();
        let request = CountedRequest {
            status: None,
            is_failure: false,
            attempts: 0,
            received: 5,
            sent: 0,
        };
        for status in [101, 200, 200, 302, 404, 503, 999] {
            counters.count(CountedRequest {
                status: Some(status),
                is_failure: status == 503,
                attempts: 3,
                ..request
            });
        }
        counters.count(request);
        let expected = PoolTotals {
            responses: [2, 1, 2, 1, 1, 1],
            errors: 1,
            retries: 14,
            denied_retries: 0,
            received: 40,
            sent: 0,
        };
        assert_eq!(counters.totals(), expected);
        let counts = counters.counts();
        assert_eq!((counts.requests, counts.errors), (8, 1));
    }
}
