//! Traces: each recorded request and each of its attempts is a span that a collector is told of (OTLP over HTTP).
//!
//! On the request's path its facts are copied into a queue of bounded length, no more; a thread of its own makes spans of
//! them and sends these. A collector that is slow, gone or broken costs spans, never a request: what the queue does not
//! take is dropped and counted.

mod batch;
mod client;
mod ended;
mod exporter;
mod otlp;
mod span;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self as sync, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use tokio::runtime;
use tokio::sync::{mpsc, watch};

use crate::config::Otlp;
use crate::record::{Observer, Record};
use crate::supervisor::{Supervisor, Task};

use client::Client;
use ended::Ended;
use exporter::Exporter;

/// Tells a collector of requests. Dropping it lets what waits go out in the background, once.
#[derive(Debug)]
pub struct Traces {
    config: Otlp,
    queue: mpsc::Sender<Box<Ended>>,
    counts: Arc<Counts>,
    ending: watch::Sender<bool>,
    /// Closed by the end of the thread.
    ended: Mutex<sync::Receiver<()>>,
}

/// What became of recorded requests.
#[derive(Debug, Default)]
pub struct Counts {
    exported: AtomicU64,
    lost: AtomicU64,
}

impl Counts {
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

impl Traces {
    /// Starts the thread that sends. `counts` go on from whatever they are.
    ///
    /// # Errors
    /// The thread or its runtime cannot be had.
    pub fn start(config: Otlp, counts: Arc<Counts>) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel(config.queue);
        let (ending, told) = watch::channel(false);
        let (alive, ended) = sync::channel::<()>();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = Client::new(&config);
        let mut exporter = Exporter::new(&config, client, waiting, told, Arc::clone(&counts));
        thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || {
                let mut supervisor = Supervisor::new(Task::Traces, "");
                runtime.block_on(async {
                    while supervisor.watch(exporter.run()).await.is_none() {
                        // What it was about to send may be what it cannot send.
                        exporter.give_up();
                    }
                });
                drop(alive);
            })?;
        Ok(Traces {
            config,
            queue,
            counts,
            ending,
            ended: Mutex::new(ended),
        })
    }

    /// What it was started with.
    pub fn config(&self) -> &Otlp {
        &self.config
    }
}

impl Observer for Traces {
    fn ended(&self, record: &Record<'_>) {
        let Some(trace) = record.summary.trace.filter(|trace| trace.sampled) else {
            return;
        };
        // Whether there is room comes first, so that nothing is copied in vain.
        match self.queue.try_reserve() {
            Ok(place) => place.send(Box::new(Ended::new(record, trace))),
            Err(_) => self.counts.add_lost(1),
        }
    }

    fn flush(&self, by: Instant) {
        self.ending.send_replace(true);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let left = by.saturating_duration_since(Instant::now());
        if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(left) {
            log::warn!(
                "the collector of traces did not take the last ones in time: {}",
                self.config.endpoint
            );
        }
    }
}
