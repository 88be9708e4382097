//! Traces: each recorded request and each of its attempts is a span that a collector is told of (OTLP over HTTP).
//!
//! On the request's path its facts are copied into a queue of bounded length, no more; a thread of its own makes spans of
//! them and sends these. A collector that is slow, gone or broken costs spans, never a request: what the queue does not
//! take is dropped and counted.

mod collector_client;
mod exporter;
mod finished_request;
mod otlp;
mod span;
mod span_batch;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self as sync, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::runtime;
use tokio::sync::{mpsc, watch};

use crate::config::Otlp;
use crate::record::{Observer, RequestRecord};
use crate::supervisor::{Supervisor, Task};

use collector_client::CollectorClient;
use exporter::Exporter;
use finished_request::FinishedRequest;

/// Tells a collector of requests. Dropping it lets what waits go out in the background, once.
#[derive(Debug)]
pub struct SpanProcessor {
    config: Otlp,
    queue: mpsc::Sender<Box<FinishedRequest>>,
    counts: Arc<ExportCounters>,
    shutdown: watch::Sender<bool>,
    /// Closed by the end of the thread.
    finished: Mutex<sync::Receiver<()>>,
}

/// What became of recorded requests.
#[derive(Debug, Default)]
pub struct ExportCounters {
    exported: AtomicU64,
    lost: AtomicU64,
}

impl ExportCounters {
    /// Requests that a collector has taken.
    pub fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Requests that no collector was told of: the queue was full, or the collector did not take them.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn add_exported(&self, requests: usize) {
        self.exported.fetch_add(requests as u64, Ordering::Relaxed);
    }

    fn add_lost(&self, requests: usize) {
        self.lost.fetch_add(requests as u64, Ordering::Relaxed);
    }
}

impl SpanProcessor {
    /// Starts the thread that sends. `counts` go on from whatever they are.
    ///
    /// # Errors
    /// The thread or its runtime cannot be had.
    pub fn start(config: Otlp, counts: Arc<ExportCounters>) -> io::Result<Self> {
        let (queue, receiver) = mpsc::channel(config.queue);
        let (shutdown, on_shutdown) = watch::channel(false);
        let (alive, finished) = sync::channel::<()>();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = CollectorClient::new(&config);
        let mut exporter =
            Exporter::new(&config, client, receiver, on_shutdown, Arc::clone(&counts));
        thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || {
                let mut supervisor = Supervisor::new(Task::Traces, "");
                runtime.block_on(async {
                    while supervisor.run(exporter.run()).await.is_none() {
                        // What it was about to send may be what it cannot send.
                        exporter.discard_batch();
                    }
                });
                drop(alive);
            })?;
        Ok(SpanProcessor {
            config,
            queue,
            counts,
            shutdown,
            finished: Mutex::new(finished),
        })
    }

    /// What it was started with.
    pub fn config(&self) -> &Otlp {
        &self.config
    }
}

impl Observer for SpanProcessor {
    fn on_request_end(&self, record: &RequestRecord<'_>) {
        let Some(trace) = record.summary.trace.filter(|trace| trace.sampled) else {
            return;
        };
        // Whether there is room comes first, so that nothing is copied in vain.
        match self.queue.try_reserve() {
            Ok(permit) => permit.send(Box::new(FinishedRequest::new(record, trace))),
            Err(_) => self.counts.add_lost(1),
        }
    }

    fn flush(&self, by: Instant) {
        self.shutdown.send_replace(true);
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let left = by.saturating_duration_since(Instant::now());
        if let Err(RecvTimeoutError::Timeout) = finished.recv_timeout(left) {
            log::warn!(
                "the collector of traces did not take the last ones in time: {}",
                self.config.endpoint
            );
        }
    }
}
