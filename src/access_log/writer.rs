//! The thread that writes.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Instant;

use log::warn;

use super::clock::Clock;
use super::entry::{Batch, Facts, Line};
use super::queue::Queue;
use super::sink::{Sink, Unwritten};
use super::{combined, json};
use crate::config::{self, LogFormat, LogTarget};
use crate::supervisor::{Supervisor, Task};

/// Bytes of lines that are written at once: few calls, and still in the cache.
const PIECE: usize = 128 << 10;

/// An open log. Dropping it ends its thread, once everything is written.
#[derive(Debug)]
pub(super) struct Writer {
    target: LogTarget,
    queue: Arc<Queue>,
}

impl Writer {
    /// Opens the log, and starts its thread. Lines that it loses are added to `lost`.
    ///
    /// # Errors
    /// One line for a person.
    pub(super) fn start(log: &config::AccessLog, lost: &Arc<AtomicU64>) -> Result<Self, String> {
        let sink = Sink::open(&log.path)?;
        let queue = Arc::new(Queue::new(
            log.path.to_string(),
            log.buffer,
            Arc::clone(lost),
        ));
        let taken = Arc::clone(&queue);
        thread::Builder::new()
            .name("access log".to_owned())
            .spawn(move || write(sink, &taken))
            .map_err(|error| format!("access_log: cannot start its thread: {error}"))?;
        Ok(Writer {
            target: log.path.clone(),
            queue,
        })
    }

    /// Whether it is what `log` asks for.
    pub(super) fn suits(&self, log: &config::AccessLog) -> bool {
        self.target == log.path && self.queue.capacity() == log.buffer
    }

    /// Takes a request in, or loses its line if too many wait.
    pub(super) fn put(&self, facts: &Facts<'_>) {
        self.queue.put(facts);
    }

    /// Has the file opened anew.
    pub(super) fn reopen(&self) {
        self.queue.reopen();
    }

    /// Waits until everything is written, but no longer than until `deadline`.
    pub(super) fn flush(&self, deadline: Instant) {
        self.queue.flush(deadline);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.end();
    }
}

fn write(mut sink: Sink, queue: &Queue) {
    let mut supervisor = Supervisor::new(Task::AccessLog, queue.name());
    let mut batch = Batch::default();
    while supervisor
        .watch_thread(|| write_until_the_end(&mut sink, queue, &mut batch))
        .is_none()
    {
        // One of the lines may be what cannot be written. Some may have been; which ones is not known.
        queue.lose_taken(batch.len() as u64, &"the thread that writes panicked");
        batch.clear();
    }
}

fn write_until_the_end(sink: &mut Sink, queue: &Queue, batch: &mut Batch) {
    let mut pen = Pen::default();
    while let Some(task) = queue.take(batch) {
        let mut all = true;
        pen.json.set();
        pen.combined.set();
        let mut lines = batch.lines().peekable();
        while let Some(line) = lines.next() {
            pen.put(&line);
            if pen.lines.len() < PIECE && lines.peek().is_some() {
                continue;
            }
            if let Err(Unwritten { lines, error }) = sink.write(&pen.lines) {
                queue.lose_taken(lines, &error);
                all = false;
            }
            pen.lines.clear();
        }
        if all {
            queue.wrote();
        }
        if task.reopen {
            match sink.reopen() {
                Ok(0) => {}
                Ok(lost) => {
                    queue.lose_taken(lost, &"the rest of a line had no room in the old file")
                }
                Err(reason) => warn!("{reason}; the old file is written on"),
            }
        }
    }
}

/// What lines are made with.
#[derive(Default)]
struct Pen {
    lines: Vec<u8>,
    json: Clock,
    combined: Clock,
}

impl Pen {
    fn put(&mut self, line: &Line<'_>) {
        match line.entry.format {
            LogFormat::Json => json::write(&mut self.lines, line, &mut self.json),
            LogFormat::Combined => combined::write(&mut self.lines, line, &mut self.combined),
        }
        self.lines.push(b'\n');
    }
}
