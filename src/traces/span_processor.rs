//! The observer of finished requests, and the exporter thread that it starts.

use std::io;
use std::sync::mpsc::{self as sync, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::runtime;
use tokio::sync::{mpsc, watch};

use super::collector_client::CollectorClient;
use super::export_counters::ExportCounters;
use super::exporter::Exporter;
use super::finished_request::FinishedRequest;
use crate::config::Otlp;
use crate::record::{Observer, RequestRecord};
use crate::supervisor::{Supervisor, Task};

/// Queues finished requests for export. Dropping it lets the exporter send the queue once, in the background.
#[derive(Debug)]
pub struct SpanProcessor {
    config: Otlp,
    queue: mpsc::Sender<Box<FinishedRequest>>,
    counts: Arc<ExportCounters>,
    shutdown: watch::Sender<bool>,
    /// Disconnected when the exporter thread ends.
    finished: Mutex<sync::Receiver<()>>,
}

impl SpanProcessor {
    /// Starts the exporter thread. `counts` may already count for an earlier exporter.
    ///
    /// # Errors
    /// The thread or its runtime cannot be created.
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
                        // The batch may have caused the panic.
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

    /// The configuration that it was started with.
    pub fn config(&self) -> &Otlp {
        &self.config
    }
}

impl Observer for SpanProcessor {
    fn on_request_end(&self, record: &RequestRecord<'_>) {
        let Some(trace) = record.summary.trace.filter(|trace| trace.sampled) else {
            return;
        };
        // Reserve first, so that nothing is copied if the queue is full.
        match self.queue.try_reserve() {
            Ok(permit) => permit.send(Box::new(FinishedRequest::new(record, trace))),
            Err(_) => self.counts.add_lost(1),
        }
    }

    fn flush(&self, deadline: Instant) {
        self.shutdown.send_replace(true);
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = deadline.saturating_duration_since(Instant::now());
        if let Err(RecvTimeoutError::Timeout) = finished.recv_timeout(timeout) {
            log::warn!(
                "the trace collector did not accept the last spans in time: {}",
                self.config.endpoint
            );
        }
    }
}
