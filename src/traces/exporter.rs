//! What waits in the queue, sent in batches: tried again for a while where that may help, then given up.

use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::ExportCounters;
use super::collector_client::{CollectorClient, ExportError};
use super::finished_request::FinishedRequest;
use super::span_batch::SpanBatch;
use crate::config::Otlp;

/// How long is waited before each further try to send a batch.
const RETRY_BACKOFF: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// How often it is looked who else goes along. A thread that is woken by each request costs it more than all the rest.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How often, once an eighth of the queue has been found taken.
const BUSY_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Sends what waits, until it is told to end.
pub(super) struct Exporter {
    client: CollectorClient,
    queue: mpsc::Receiver<Box<FinishedRequest>>,
    shutdown: watch::Receiver<bool>,
    counts: Arc<ExportCounters>,
    interval: Duration,
    batch: SpanBatch,
    endpoint: String,
    /// What was lost when the collector was last known to take what it is sent; `None`: it is.
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

    /// Loses what it has taken from the queue.
    pub(super) fn discard_batch(&mut self) {
        self.counts.add_lost(self.batch.requests());
        self.batch.clear();
    }

    pub(super) async fn run(&mut self) {
        while self.collect_batch().await {
            self.export_batch(&RETRY_BACKOFF).await;
        }
        // No time is left to try anything twice.
        loop {
            drain_queue(&mut self.queue, &mut self.batch);
            if self.batch.requests() == 0 {
                return;
            }
            self.export_batch(&[]).await;
        }
    }

    /// Waits for requests to tell of. `false`: it is time to end; there may be some nevertheless.
    async fn collect_batch(&mut self) -> bool {
        let (queue, batch) = (&mut self.queue, &mut self.batch);
        let some = async {
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
            // Full or not, it goes then.
            let _ = timeout(self.interval, more).await;
        };
        tokio::select! {
            biased;
            () = wait_for_shutdown(&mut self.shutdown) => return false,
            () = some => {}
        }
        self.batch.requests() > 0
    }

    /// Sends the batch, again after each of `backoff` if that may help, and empties it.
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
                // The last try comes at once.
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
                "the collector of traces turned spans away: {rejected}, {}",
                self.endpoint
            );
        }
        if let Some(before) = self.lost_before.take() {
            let lost = self.counts.lost() - before;
            info!(
                "traces go to {} again; requests not told of: {lost}",
                self.endpoint
            );
        }
    }

    /// Once, until the collector takes something again.
    fn warn_once(&mut self, error: &ExportError) {
        if self.lost_before.is_none() {
            self.lost_before = Some(self.counts.lost());
            warn!("traces do not go to {}: {error}", self.endpoint);
        }
    }
}

/// Waits until it is time to end.
async fn wait_for_shutdown(shutdown: &mut watch::Receiver<bool>) {
    // Whoever could tell it is gone: then it is time as well.
    let _ = shutdown.wait_for(|yes| *yes).await;
}

/// Adds those that wait to a batch, as far as there is room. They are made spans of at once: what is kept of a request takes
/// more room.
fn drain_queue(queue: &mut mpsc::Receiver<Box<FinishedRequest>>, batch: &mut SpanBatch) {
    while !batch.is_full()
        && let Ok(request) = queue.try_recv()
    {
        batch.add(&request);
    }
}
