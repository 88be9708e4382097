//! The writer thread of a log.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Instant;

use log::warn;

use super::entry_batch::{EntryBatch, EntryView, NewEntry};
use super::entry_queue::EntryQueue;
use super::log_file::{LogFile, WriteError};
use super::timestamp_formatter::TimestampFormatter;
use super::{combined, json};
use crate::config::{self, LogFormat, LogTarget};
use crate::supervisor::{Supervisor, Task};

/// Formatted lines are written in pieces of about this size: few calls, and still in the processor's cache.
const WRITE_SIZE: usize = 128 << 10;

/// An open log. Dropping it ends its thread once everything is written.
#[derive(Debug)]
pub(super) struct LogWriter {
    target: LogTarget,
    queue: Arc<EntryQueue>,
}

impl LogWriter {
    /// Opens the log and starts its thread. `lost` counts the lines that are lost.
    ///
    /// # Errors
    /// A message of one line.
    pub(super) fn start(log: &config::AccessLog, lost: &Arc<AtomicU64>) -> Result<Self, String> {
        let file = LogFile::open(&log.path)?;
        let queue = Arc::new(EntryQueue::new(
            log.path.to_string(),
            log.buffer,
            Arc::clone(lost),
        ));
        let writer_queue = Arc::clone(&queue);
        thread::Builder::new()
            .name("access log".to_owned())
            .spawn(move || write(file, &writer_queue))
            .map_err(|error| format!("access_log: cannot start its thread: {error}"))?;
        Ok(LogWriter {
            target: log.path.clone(),
            queue,
        })
    }

    /// Whether this log has the target and buffer of `log`.
    pub(super) fn matches(&self, log: &config::AccessLog) -> bool {
        self.target == log.path && self.queue.capacity() == log.buffer
    }

    /// Queues a request, or counts its line as lost if the queue is full.
    pub(super) fn push(&self, new_entry: &NewEntry<'_>) {
        self.queue.push(new_entry);
    }

    /// Asks for the file to be reopened.
    pub(super) fn reopen(&self) {
        self.queue.reopen();
    }

    /// Waits until everything is written, at the latest until `deadline`.
    pub(super) fn flush(&self, deadline: Instant) {
        self.queue.flush(deadline);
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn write(mut file: LogFile, queue: &EntryQueue) {
    let mut supervisor = Supervisor::new(Task::AccessLog, queue.name());
    let mut batch = EntryBatch::default();
    while supervisor
        .run_thread(|| write_batches(&mut file, queue, &mut batch))
        .is_none()
    {
        // One of the lines may have caused the panic. Some may have been written, so all of them count as lost.
        queue.count_lost_batch(batch.len() as u64, &"the writer thread panicked");
        batch.clear();
    }
}

fn write_batches(file: &mut LogFile, queue: &EntryQueue, batch: &mut EntryBatch) {
    let mut formatter = LineFormatter::default();
    while let Some(task) = queue.take_batch(batch) {
        let mut is_complete = true;
        formatter.json.sync();
        formatter.combined.sync();
        let mut lines = batch.lines().peekable();
        while let Some(line) = lines.next() {
            formatter.append(&line);
            if formatter.lines.len() < WRITE_SIZE && lines.peek().is_some() {
                continue;
            }
            if let Err(WriteError { lines, error }) = file.write(&formatter.lines) {
                queue.count_lost_batch(lines, &error);
                is_complete = false;
            }
            formatter.lines.clear();
        }
        if is_complete {
            queue.batch_written();
        }
        if task.reopen {
            match file.reopen() {
                Ok(0) => {}
                Ok(lost) => queue
                    .count_lost_batch(lost, &"the rest of a line did not fit into the old file"),
                Err(reason) => warn!("{reason}; the old file is written on"),
            }
        }
    }
}

/// Formats entries into `lines`.
#[derive(Default)]
struct LineFormatter {
    lines: Vec<u8>,
    json: TimestampFormatter,
    combined: TimestampFormatter,
}

impl LineFormatter {
    fn append(&mut self, line: &EntryView<'_>) {
        match line.entry.format {
            LogFormat::Json => json::write(&mut self.lines, line, &mut self.json),
            LogFormat::Combined => combined::write(&mut self.lines, line, &mut self.combined),
        }
        self.lines.push(b'\n');
    }
}
