//! Times requests as they end.

use std::sync::Arc;

use crate::record::{Observer, RequestRecord};

use super::latency_histogram::LatencyHistogram;

/// The durations of requests since they were last taken, by the index of their pool.
#[derive(Debug)]
pub(super) struct HistoryObserver(pub(super) Vec<Arc<LatencyHistogram>>);

impl Observer for HistoryObserver {
    fn on_request_end(&self, record: &RequestRecord<'_>) {
        let latencies = record.pool.and_then(|(number, _)| self.0.get(number));
        if let (Some(latencies), true) = (latencies, is_timed(record.summary.status)) {
            latencies.count(record.summary.duration);
        }
    }
}

/// Whether the duration of a request with this status is a latency. The lifetime of a tunnel says nothing about a
/// host's latency, and neither does a response that did not come.
fn is_timed(status: Option<u16>) -> bool {
    matches!(status, Some(200..=599))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_and_requests_without_a_response_are_not_timed() {
        for status in [None, Some(0), Some(101), Some(199), Some(600), Some(999)] {
            assert!(!is_timed(status), "{status:?}");
        }
        for status in [200, 302, 404, 503, 599] {
            assert!(is_timed(Some(status)), "{status}");
        }
    }
}
