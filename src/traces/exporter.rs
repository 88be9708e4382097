//! Exports queued requests in batches. A failed batch is retried for a while if that may help, and then dropped.

use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::collector_client::{CollectorClient, ExportError};
use super::export_counters::ExportCounters;
use super::finished_request::FinishedRequest;
use super::span_batch::SpanBatch;
use crate::config::Otlp;

/// The delays before each retry of a batch.
const RETRY_BACKOFF: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// How often the queue is polled while a batch fills. Waking this thread for each request would cost that request more
/// than all other work here.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The polling interval while more than an eighth of the queue is taken.
const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Exports queued requests until shutdown.
pub(super) struct Exporter {
    client: CollectorClient,
    queue: mpsc::Receiver<Box<FinishedRequest>>,
    shutdown: watch::Receiver<bool>,
    counts: Arc<ExportCounters>,
    interval: Duration,
    batch: SpanBatch,
    endpoint: String,
    /// The number of lost requests when exports began to fail; `None` while they succeed.
    lost_before: Option<u64>,
}

impl Exporter {
    pub(super) fn new(
        config: &Otlp,
        client: CollectorClient,
        queue: mpsc::Receiver<Box<FinishedRequest>>,
        shutdown: watch::Receiver<bool>,
        counts: Arc<ExportCounters>,
    ) -> Self {
        Exporter {
            client,
            queue,
            shutdown,
            counts,
            interval: config.interval,
            batch: SpanBatch::new(&config.service),
            endpoint: config.endpoint.to_string(),
            lost_before: None,
        }
    }

    /// Drops the current batch and counts its requests as lost.
    pub(super) fn discard_batch(&mut self) {
        self.counts.add_lost(self.batch.requests());
        self.batch.clear();
    }

    pub(super) async fn run(&mut self) {
        while self.collect_batch().await {
            self.export_batch(&RETRY_BACKOFF).await;
        }
        // At shutdown there is no time for retries.
        loop {
            drain_queue(&mut self.queue, &mut self.batch);
            if self.batch.requests() == 0 {
                return;
            }
            self.export_batch(&[]).await;
        }
    }

    /// Collects a batch. `false` at shutdown; the batch may contain requests even then.
    async fn collect_batch(&mut self) -> bool {
        let (queue, batch) = (&mut self.queue, &mut self.batch);
        let first_batch = async {
            let Some(first) = queue.recv().await else {
                return;
            };
            batch.add(&first);
            let more = async {
                while !batch.is_full() {
                    let is_busy = queue.len() > queue.max_capacity() / 8;
                    drain_queue(queue, batch);
                    sleep(if is_busy {
                        BUSY_POLL_INTERVAL
                    } else {
                        POLL_INTERVAL
                    })
                    .await;
                }
            };
            // After the interval the batch is sent, full or not.
            let _ = timeout(self.interval, more).await;
        };
        tokio::select! {
            biased;
            () = wait_for_shutdown(&mut self.shutdown) => return false,
            () = first_batch => {}
        }
        self.batch.requests() > 0
    }

    /// Exports the batch, with a retry after each delay in `backoff` if the error is retryable, and clears it.
    async fn export_batch(&mut self, backoff: &[Duration]) {
        let requests = self.batch.requests();
        let mut backoff = backoff.iter();
        loop {
            let error = match self.client.post(&self.batch.message()).await {
                Ok(rejected) => {
                    self.batch.clear();
                    return self.note_exported(requests, rejected);
                }
                Err(error) => error,
            };
            self.warn_once(&error);
            let delay = match error {
                ExportError::Retryable(_) => backoff.next(),
                ExportError::Permanent(_) => None,
            };
            let Some(delay) = delay else { break };
            tokio::select! {
                biased;
                // At shutdown one last attempt follows at once.
                () = wait_for_shutdown(&mut self.shutdown) => backoff = [].iter(),
                () = sleep(*delay) => {}
            }
        }
        self.batch.clear();
        self.counts.add_lost(requests);
    }

    fn note_exported(&mut self, requests: usize, rejected: u64) {
        self.counts.add_exported(requests);
        if rejected > 0 {
            warn!(
                "the trace collector rejected spans: {rejected}, {}",
                self.endpoint
            );
        }
        if let Some(before) = self.lost_before.take() {
            let lost = self.counts.lost() - before;
            info!(
                "traces are exported to {} again; requests lost: {lost}",
                self.endpoint
            );
        }
    }

    /// Logs the first failure until an export succeeds again.
    fn warn_once(&mut self, error: &ExportError) {
        if self.lost_before.is_none() {
            self.lost_before = Some(self.counts.lost());
            warn!("cannot export traces to {}: {error}", self.endpoint);
        }
    }
}

/// Waits for shutdown.
async fn wait_for_shutdown(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a shutdown as well.
    let _ = shutdown.wait_for(|yes| *yes).await;
}

/// Moves queued requests into the batch until it is full. Encoding them at once saves memory: spans are smaller than
/// queued requests.
fn drain_queue(queue: &mut mpsc::Receiver<Box<FinishedRequest>>, batch: &mut SpanBatch) {
    while !batch.is_full()
        && let Ok(request) = queue.try_recv()
    {
        batch.add(&request);
    }
}
