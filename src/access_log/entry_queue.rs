//! A bounded queue between requests and the writer thread. Pushing never waits for the writer.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::entry_batch::{EntryBatch, NewEntry};

/// How long the first entry of a batch waits for others.
const FLUSH_DELAY: Duration = Duration::from_millis(50);

/// A batch of this size is written without waiting for more: it still fits into the processor's cache beside other
/// data.
const FLUSH_BYTES: usize = 256 << 10;

/// Lost lines are logged at most once per second.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// The queue of one log.
pub(super) struct EntryQueue {
    /// The name of the log, for messages.
    name: String,
    /// The maximum size of the waiting entries, in bytes.
    capacity: usize,
    /// The number of lines that the process has lost, in all logs; outlives this log.
    lost_by_process: Arc<AtomicU64>,
    /// Locked only to copy an entry or to swap batches.
    state: Mutex<QueueState>,
    /// Notified when the writer has work.
    has_work: Condvar,
    /// Notified when everything is written.
    is_drained: Condvar,
}

#[derive(Default)]
struct QueueState {
    batch: EntryBatch,
    /// The writer is writing a batch.
    writing: bool,
    /// Batches are written at once: the process is about to exit.
    is_flushing: bool,
    reopen: bool,
    is_closed: bool,
    /// The number of lines lost so far.
    lost: u64,
    /// Whether lines were lost since the last batch was taken.
    lost_since_take: bool,
    /// When a loss was last logged, and whether the recovery was logged since.
    last_warning: Option<Instant>,
    is_recovery_logged: bool,
}

impl fmt::Debug for EntryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.name).finish()
    }
}

/// What the writer does after it has written a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriterTask {
    /// Reopen the file.
    pub(super) reopen: bool,
}

impl EntryQueue {
    pub(super) fn new(name: String, capacity: usize, lost_by_process: Arc<AtomicU64>) -> Self {
        EntryQueue {
            name,
            capacity,
            lost_by_process,
            state: Mutex::default(),
            has_work: Condvar::new(),
            is_drained: Condvar::new(),
        }
    }

    /// The name of the log, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The size at which a batch is written without waiting for more.
    fn flush_bytes(&self) -> usize {
        FLUSH_BYTES.min(self.capacity / 2)
    }

    /// Adds an entry, or counts it as lost if the queue is full.
    pub(super) fn push(&self, new_entry: &NewEntry<'_>) {
        let mut state = self.state();
        let before = state.batch.bytes();
        let now = before + new_entry.bytes;
        if now > self.capacity {
            return self.count_lost(state, 1, "lines come faster than they are written");
        }
        state.batch.push(new_entry);
        drop(state);
        let flush_bytes = self.flush_bytes();
        if before == 0 || (before < flush_bytes && now >= flush_bytes) {
            self.has_work.notify_one();
        }
    }

    /// Waits for work and swaps `written`, a batch that was written, for the waiting batch, which may be empty. `None`
    /// once the queue is closed and empty.
    pub(super) fn take_batch(&self, written: &mut EntryBatch) -> Option<WriterTask> {
        written.clear();
        let mut state = self.state();
        state.writing = false;
        if state.batch.is_empty() {
            self.is_drained.notify_all();
        }
        let is_idle =
            |state: &mut QueueState| state.batch.is_empty() && !state.reopen && !state.is_closed;
        let woken = self.has_work.wait_while(state, is_idle);
        let should_wait = |state: &mut QueueState| {
            let has_time = !state.is_flushing && !state.reopen && !state.is_closed;
            has_time && state.batch.bytes() < self.flush_bytes()
        };
        let state = woken.unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .has_work
            .wait_timeout_while(state, FLUSH_DELAY, should_wait);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.is_closed && state.batch.is_empty() {
            return None;
        }
        std::mem::swap(&mut state.batch, written);
        state.writing = true;
        state.lost_since_take = false;
        Some(WriterTask {
            reopen: std::mem::take(&mut state.reopen),
        })
    }

    /// Counts lines of the current batch that could not be written.
    pub(super) fn count_lost_batch(&self, lines: u64, reason: &dyn Display) {
        self.count_lost(self.state(), lines, reason);
    }

    /// Records that the whole batch was written. Logs the recovery after a logged loss, once lines are no longer lost.
    pub(super) fn batch_written(&self) {
        let mut state = self.state();
        if state.last_warning.is_some() && !state.is_recovery_logged && !state.lost_since_take {
            state.is_recovery_logged = true;
            let lost = state.lost;
            drop(state);
            info!(
                "access log {}: written again, lines lost so far: {lost}",
                self.name
            );
        }
    }

    fn count_lost(&self, mut state: MutexGuard<'_, QueueState>, lines: u64, reason: impl Display) {
        state.lost += lines;
        self.lost_by_process.fetch_add(lines, Ordering::Relaxed);
        state.lost_since_take = true;
        let now = Instant::now();
        let since = |then: Instant| now.duration_since(then);
        if state
            .last_warning
            .is_some_and(|then| since(then) < WARNING_INTERVAL)
        {
            return;
        }
        state.last_warning = Some(now);
        state.is_recovery_logged = false;
        let lost = state.lost;
        drop(state);
        warn!(
            "access log {}: {reason}; lines lost so far: {lost}",
            self.name
        );
    }

    /// The number of lines that this log has lost.
    #[cfg(test)]
    fn lost(&self) -> u64 {
        self.state().lost
    }

    /// Asks the writer to reopen the file.
    pub(super) fn reopen(&self) {
        self.state().reopen = true;
        self.has_work.notify_one();
    }

    /// Asks the writer to exit once everything is written.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.has_work.notify_one();
    }

    /// Waits until everything is written, at the latest until `deadline`.
    pub(super) fn flush(&self, deadline: Instant) {
        let mut state = self.state();
        state.is_flushing = true;
        self.has_work.notify_one();
        let timeout = deadline.saturating_duration_since(Instant::now());
        let is_busy = |state: &mut QueueState| state.writing || !state.batch.is_empty();
        // After a timeout the process exits anyway.
        drop(self.is_drained.wait_timeout_while(state, timeout, is_busy));
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        // A panic cannot leave the state inconsistent, so a poisoned lock is safe to use.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::config::LogFormat;
    use crate::record::{RequestRecord, TerminationReason};

    /// Pushes a request without a head, identified by `sent`; returns the size of its entry.
    fn put(queue: &EntryQueue, sent: u64) -> usize {
        let record = RequestRecord::without_head(
            Instant::now(),
            None,
            false,
            None,
            sent,
            TerminationReason::ClientGone,
        );
        let new_entry = NewEntry::new(&record, LogFormat::Json, None);
        queue.push(&new_entry);
        new_entry.bytes
    }

    fn sent(batch: &EntryBatch) -> Vec<u64> {
        batch.lines().map(|line| line.entry.summary.sent).collect()
    }

    #[test]
    fn entries_without_space_are_lost_and_the_others_stay_in_order() {
        let each = put(&EntryQueue::new("test".to_owned(), 0, Arc::default()), 0);
        let queue = EntryQueue::new("test".to_owned(), 3 * each - 1, Arc::default());
        for number in 1..=4 {
            put(&queue, number);
        }
        assert_eq!(queue.lost(), 2);
        let mut taken = EntryBatch::default();
        assert_eq!(
            queue.take_batch(&mut taken),
            Some(WriterTask { reopen: false })
        );
        assert_eq!(sent(&taken), [1, 2]);
        put(&queue, 5);
        queue.reopen();
        queue.close();
        assert_eq!(
            queue.take_batch(&mut taken),
            Some(WriterTask { reopen: true })
        );
        assert_eq!(sent(&taken), [5]);
        assert_eq!(queue.take_batch(&mut taken), None);
        assert_eq!(queue.lost(), 2);
    }

    #[test]
    fn a_flush_waits_for_the_writer_up_to_its_deadline() {
        let queue = Arc::new(EntryQueue::new("test".to_owned(), 10_000, Arc::default()));
        put(&queue, 1);
        let start = Instant::now();
        queue.flush(start + Duration::from_millis(20));
        assert!(
            start.elapsed() >= Duration::from_millis(20),
            "there is no writer yet"
        );
        let writer = Arc::clone(&queue);
        let writing = thread::spawn(move || {
            let mut taken = EntryBatch::default();
            while writer.take_batch(&mut taken).is_some() {}
        });
        let start = Instant::now();
        queue.flush(start + Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(60));
        queue.close();
        writing.join().expect("it has ended");
    }
}
