//! What waits for its line: bounded, so that nobody has to wait with it.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::entry_batch::{EntryBatch, NewEntry};

/// How long the first of some lines waits for others to be written with.
const FLUSH_DELAY: Duration = Duration::from_millis(50);

/// So many bytes wait for no more: what a processor's cache holds beside everything else.
const FLUSH_BYTES: usize = 256 << 10;

/// No more than one line a second about lines that are lost.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// Lines on their way from the requests to the thread that writes them.
pub(super) struct EntryQueue {
    /// The log, in words.
    name: String,
    /// In bytes.
    capacity: usize,
    /// Lines that the process has lost, in this log and in others; outlives them all.
    lost_by_process: Arc<AtomicU64>,
    /// Held for as long as a request's facts are copied or some pointers are exchanged.
    state: Mutex<QueueState>,
    /// There is something to do for the thread that writes.
    has_work: Condvar,
    /// Everything is written.
    is_drained: Condvar,
}

#[derive(Default)]
struct QueueState {
    batch: EntryBatch,
    /// Lines that were taken are being written.
    writing: bool,
    /// Nobody gathers any more.
    is_flushing: bool,
    reopen: bool,
    is_closed: bool,
    /// Lines lost so far.
    lost: u64,
    /// Whether some were since the last lines were taken.
    lost_since_take: bool,
    /// When it was last told that lines are lost, and whether it was told that no more are.
    last_warning: Option<Instant>,
    is_recovery_logged: bool,
}

impl fmt::Debug for EntryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.name).finish()
    }
}

/// What the thread that writes is to do beside that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WriterTask {
    /// Open the file anew once the lines are written.
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

    /// The log, in words.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes that are written without waiting for more.
    fn flush_bytes(&self) -> usize {
        FLUSH_BYTES.min(self.capacity / 2)
    }

    /// Takes a request in, or loses its line if there is no room.
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

    /// Exchanges `written`, the requests whose lines have been written, for those whose are to be, which may be none; waits
    /// until there is something to do. `None`: the end.
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

    /// So many of the lines that were taken could not be written.
    pub(super) fn count_lost_batch(&self, lines: u64, reason: &dyn Display) {
        self.count_lost(self.state(), lines, reason);
    }

    /// The lines that were taken are written. Says so if it was said that lines are lost, and none are any more.
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

    /// Lines that this log has lost so far.
    #[cfg(test)]
    fn lost(&self) -> u64 {
        self.state().lost
    }

    /// Asks for the file to be opened anew.
    pub(super) fn reopen(&self) {
        self.state().reopen = true;
        self.has_work.notify_one();
    }

    /// Asks for the end, once everything is written.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.has_work.notify_one();
    }

    /// Waits until everything is written, but no longer than until `deadline`.
    pub(super) fn flush(&self, deadline: Instant) {
        let mut state = self.state();
        state.is_flushing = true;
        self.has_work.notify_one();
        let left = deadline.saturating_duration_since(Instant::now());
        let is_busy = |state: &mut QueueState| state.writing || !state.batch.is_empty();
        // The process ends either way.
        drop(self.is_drained.wait_timeout_while(state, left, is_busy));
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        // Nothing that is done under the lock can be half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::config::LogFormat;
    use crate::record::{RequestRecord, TerminationReason};

    /// Requests that brought no head, told apart by the bytes that they were sent.
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
    fn what_has_no_room_is_lost_and_what_has_is_in_order() {
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
    fn a_flush_waits_for_the_writer_and_not_for_ever() {
        let queue = Arc::new(EntryQueue::new("test".to_owned(), 10_000, Arc::default()));
        put(&queue, 1);
        let start = Instant::now();
        queue.flush(start + Duration::from_millis(20));
        assert!(
            start.elapsed() >= Duration::from_millis(20),
            "nobody writes"
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
