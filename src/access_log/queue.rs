//! What waits for its line: bounded, so that nobody has to wait with it.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::entry::{Batch, Facts};

/// How long the first of some lines waits for others to be written with.
const GATHER: Duration = Duration::from_millis(50);

/// So many bytes wait for no more: what a processor's cache holds beside everything else.
const ENOUGH: usize = 256 << 10;

/// No more than one line a second about lines that are lost.
const BETWEEN_WARNINGS: Duration = Duration::from_secs(1);

/// Lines on their way from the requests to the thread that writes them.
pub(super) struct Queue {
    /// The log, in words.
    name: String,
    /// In bytes.
    capacity: usize,
    /// Lines that the process has lost, in this log and in others; outlives them all.
    lost_in_all: Arc<AtomicU64>,
    /// Held for as long as a request's facts are copied or some pointers are exchanged.
    state: Mutex<State>,
    /// There is something to do for the thread that writes.
    work: Condvar,
    /// Everything is written.
    done: Condvar,
}

#[derive(Default)]
struct State {
    batch: Batch,
    /// Lines that were taken are being written.
    writing: bool,
    /// Nobody gathers any more.
    hurry: bool,
    reopen: bool,
    end: bool,
    /// Lines lost so far.
    lost: u64,
    /// Whether some were since the last lines were taken.
    losing: bool,
    /// When it was last told that lines are lost, and whether it was told that no more are.
    warned: Option<Instant>,
    recovered: bool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("name", &self.name).finish()
    }
}

/// What the thread that writes is to do beside that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Task {
    /// Open the file anew once the lines are written.
    pub(super) reopen: bool,
}

impl Queue {
    pub(super) fn new(name: String, capacity: usize, lost_in_all: Arc<AtomicU64>) -> Self {
        Queue {
            name,
            capacity,
            lost_in_all,
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
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
    fn enough(&self) -> usize {
        ENOUGH.min(self.capacity / 2)
    }

    /// Takes a request in, or loses its line if there is no room.
    pub(super) fn put(&self, facts: &Facts<'_>) {
        let mut state = self.state();
        let before = state.batch.bytes();
        let now = before + facts.bytes;
        if now > self.capacity {
            return self.lose(state, 1, "lines come faster than they are written");
        }
        state.batch.push(facts);
        drop(state);
        let enough = self.enough();
        if before == 0 || (before < enough && now >= enough) {
            self.work.notify_one();
        }
    }

    /// Exchanges `written`, the requests whose lines have been written, for those whose are to be, which may be none; waits
    /// until there is something to do. `None`: the end.
    pub(super) fn take(&self, written: &mut Batch) -> Option<Task> {
        written.clear();
        let mut state = self.state();
        state.writing = false;
        if state.batch.is_empty() {
            self.done.notify_all();
        }
        let is_idle = |state: &mut State| state.batch.is_empty() && !state.reopen && !state.end;
        let woken = self.work.wait_while(state, is_idle);
        let gathers = |state: &mut State| {
            let has_time = !state.hurry && !state.reopen && !state.end;
            has_time && state.batch.bytes() < self.enough()
        };
        let state = woken.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.work.wait_timeout_while(state, GATHER, gathers);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        if state.end && state.batch.is_empty() {
            return None;
        }
        std::mem::swap(&mut state.batch, written);
        state.writing = true;
        state.losing = false;
        Some(Task {
            reopen: std::mem::take(&mut state.reopen),
        })
    }

    /// So many of the lines that were taken could not be written.
    pub(super) fn lose_taken(&self, lines: u64, reason: &dyn Display) {
        self.lose(self.state(), lines, reason);
    }

    /// The lines that were taken are written. Says so if it was said that lines are lost, and none are any more.
    pub(super) fn wrote(&self) {
        let mut state = self.state();
        if state.warned.is_some() && !state.recovered && !state.losing {
            state.recovered = true;
            let lost = state.lost;
            drop(state);
            info!(
                "access log {}: written again, lines lost so far: {lost}",
                self.name
            );
        }
    }

    fn lose(&self, mut state: MutexGuard<'_, State>, lines: u64, reason: impl Display) {
        state.lost += lines;
        self.lost_in_all.fetch_add(lines, Ordering::Relaxed);
        state.losing = true;
        let now = Instant::now();
        let since = |then: Instant| now.duration_since(then);
        if state
            .warned
            .is_some_and(|then| since(then) < BETWEEN_WARNINGS)
        {
            return;
        }
        state.warned = Some(now);
        state.recovered = false;
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
        self.work.notify_one();
    }

    /// Asks for the end, once everything is written.
    pub(super) fn end(&self) {
        self.state().end = true;
        self.work.notify_one();
    }

    /// Waits until everything is written, but no longer than until `deadline`.
    pub(super) fn flush(&self, deadline: Instant) {
        let mut state = self.state();
        state.hurry = true;
        self.work.notify_one();
        let left = deadline.saturating_duration_since(Instant::now());
        let is_busy = |state: &mut State| state.writing || !state.batch.is_empty();
        // The process ends either way.
        drop(self.done.wait_timeout_while(state, left, is_busy));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can be half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::config::LogFormat;
    use crate::record::{Ending, Record};

    /// Requests that brought no head, told apart by the bytes that they were sent.
    fn put(queue: &Queue, sent: u64) -> usize {
        let record = Record::headless(Instant::now(), None, false, None, sent, Ending::ClientGone);
        let facts = Facts::new(&record, LogFormat::Json, None);
        queue.put(&facts);
        facts.bytes
    }

    fn sent(batch: &Batch) -> Vec<u64> {
        batch.lines().map(|line| line.entry.summary.sent).collect()
    }

    #[test]
    fn what_has_no_room_is_lost_and_what_has_is_in_order() {
        let each = put(&Queue::new("test".to_owned(), 0, Arc::default()), 0);
        let queue = Queue::new("test".to_owned(), 3 * each - 1, Arc::default());
        for number in 1..=4 {
            put(&queue, number);
        }
        assert_eq!(queue.lost(), 2);
        let mut taken = Batch::default();
        assert_eq!(queue.take(&mut taken), Some(Task { reopen: false }));
        assert_eq!(sent(&taken), [1, 2]);
        put(&queue, 5);
        queue.reopen();
        queue.end();
        assert_eq!(queue.take(&mut taken), Some(Task { reopen: true }));
        assert_eq!(sent(&taken), [5]);
        assert_eq!(queue.take(&mut taken), None);
        assert_eq!(queue.lost(), 2);
    }

    #[test]
    fn a_flush_waits_for_the_writer_and_not_for_ever() {
        let queue = Arc::new(Queue::new("test".to_owned(), 10_000, Arc::default()));
        put(&queue, 1);
        let start = Instant::now();
        queue.flush(start + Duration::from_millis(20));
        assert!(
            start.elapsed() >= Duration::from_millis(20),
            "nobody writes"
        );
        let writer = Arc::clone(&queue);
        let writing = thread::spawn(move || {
            let mut taken = Batch::default();
            while writer.take(&mut taken).is_some() {}
        });
        let start = Instant::now();
        queue.flush(start + Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(60));
        queue.end();
        writing.join().expect("it has ended");
    }
}
