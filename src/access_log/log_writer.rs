//! The thread that writes.

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

/// Bytes of lines that are written at once: few calls, and still in the cache.
const WRITE_SIZE: usize = 128 << 10;

/// An open log. Dropping it ends its thread, once everything is written.
#[derive(Debug)]
pub(super) struct LogWriter {
    target: LogTarget,
    queue: Arc<EntryQueue>,
}

impl LogWriter {
    /// Opens the log, and starts its thread. Lines that it loses are added to `lost`.
    ///
    /// # Errors
    /// One line for a person.
    pub(super) fn start(log: &config::AccessLog, lost: &Arc<AtomicU64>) -> Result<Self, String> {
        let file = LogFile::open(&log.path)?;
        let queue = Arc::new(EntryQueue::new(
            log.path.to_string(),
            log.buffer,
            Arc::clone(lost),
        ));
        let taken = Arc::clone(&queue);
        thread::Builder::new()
            .name("access log".to_owned())
            .spawn(move || write(file, &taken))
            .map_err(|error| format!("access_log: cannot start its thread: {error}"))?;
        Ok(LogWriter {
            target: log.path.clone(),
            queue,
        })
    }

    /// Whether it is what `log` asks for.
    pub(super) fn matches(&self, log: &config::AccessLog) -> bool {
        self.target == log.path && self.queue.capacity() == log.buffer
    }

    /// Takes a request in, or loses its line if too many wait.
    pub(super) fn push(&self, new_entry: &NewEntry<'_>) {
        self.queue.push(new_entry);
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
        // One of the lines may be what cannot be written. Some may have been; which ones is not known.
        queue.count_lost_batch(batch.len() as u64, &"the thread that writes panicked");
        batch.clear();
    }
}

fn write_batches(file: &mut LogFile, queue: &EntryQueue, batch: &mut EntryBatch) {
    let mut formatter = LineFormatter::default();
    while let Some(task) = queue.take_batch(batch) {
        let mut all = true;
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
                all = false;
            }
            formatter.lines.clear();
        }
        if all {
            queue.batch_written();
        }
        if task.reopen {
            match file.reopen() {
                Ok(0) => {}
                Ok(lost) => {
                    queue.count_lost_batch(lost, &"the rest of a line had no room in the old file")
                }
                Err(reason) => warn!("{reason}; the old file is written on"),
            }
        }
    }
}

/// What lines are made with.
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
