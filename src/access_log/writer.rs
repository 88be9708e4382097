//! The thread that writes.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use log::warn;

use super::queue::Queue;
use super::sink::{Sink, Unwritten};
use crate::config::{self, LogTarget};

/// An open log. Dropping it ends its thread, once everything is written.
#[derive(Debug)]
pub(super) struct Writer {
    target: LogTarget,
    queue: Arc<Queue>,
}

impl Writer {
    /// Opens the log, and starts its thread.
    ///
    /// # Errors
    /// One line for a person.
    pub(super) fn start(log: &config::AccessLog) -> Result<Self, String> {
        let sink = Sink::open(&log.target)?;
        let queue = Arc::new(Queue::new(log.target.to_string(), log.buffer));
        let taken = Arc::clone(&queue);
        thread::Builder::new()
            .name("access log".to_owned())
            .spawn(move || write(sink, &taken))
            .map_err(|error| format!("access_log: cannot start its thread: {error}"))?;
        Ok(Writer {
            target: log.target.clone(),
            queue,
        })
    }

    /// Whether it is what `log` asks for.
    pub(super) fn suits(&self, log: &config::AccessLog) -> bool {
        self.target == log.target && self.queue.capacity() == log.buffer
    }

    /// Takes a line in, or loses it if too many wait.
    pub(super) fn put(&self, line: &[u8]) {
        self.queue.put(line);
    }

    /// Has the file opened anew.
    pub(super) fn reopen(&self) {
        self.queue.reopen();
    }

    /// Waits until everything is written, but no longer than until `deadline`.
    pub(super) fn flush(&self, deadline: Instant) {
        self.queue.flush(deadline);
    }

    /// Lines lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.queue.lost()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.end();
    }
}

fn write(mut sink: Sink, queue: &Queue) {
    let mut lines = Vec::new();
    while let Some(task) = queue.take(&mut lines) {
        match sink.write(&lines) {
            Ok(()) => queue.wrote(),
            Err(Unwritten { lines, error }) => queue.lose_taken(lines, &error),
        }
        if task.reopen
            && let Err(reason) = sink.reopen()
        {
            warn!("{reason}; the old file is written on");
        }
    }
}
