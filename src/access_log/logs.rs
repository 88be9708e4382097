//! The open logs of the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::AccessLog;
use super::writer::Writer;
use crate::config;

/// How long the end of the process may wait for lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The open logs of the process: the one of the site, and those of sites that it has replaced whose last requests run.
#[derive(Debug, Default)]
pub struct Logs {
    open: Mutex<Vec<Weak<Writer>>>,
    /// Lines lost by all logs that the process ever had.
    lost: Arc<AtomicU64>,
}

impl Logs {
    /// The log that `said` asks for: one that is open already, if it is the same file.
    ///
    /// # Errors
    /// One line for a person: it cannot be opened.
    pub fn open(&self, said: &config::AccessLog) -> Result<AccessLog, String> {
        let mut open = self.open_ones();
        open.retain(|writer| writer.strong_count() > 0);
        let suiting = open.iter().filter_map(Weak::upgrade);
        let writer = match suiting.into_iter().find(|writer| writer.suits(said)) {
            Some(writer) => writer,
            None => {
                let writer = Arc::new(Writer::start(said, &self.lost)?);
                open.push(Arc::downgrade(&writer));
                writer
            }
        };
        Ok(AccessLog {
            said: said.clone(),
            writer,
        })
    }

    /// Has all files opened anew, after they were renamed.
    pub fn reopen(&self) {
        self.each(|writer| writer.reopen());
    }

    /// Waits until everything is written, but no longer than a second.
    pub fn flush(&self) {
        let deadline = Instant::now() + LAST_LINES;
        self.each(|writer| writer.flush(deadline));
    }

    /// Lines lost since the process began, by every log that it has had.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn each(&self, act: impl FnMut(Arc<Writer>)) {
        let open = Vec::from_iter(self.open_ones().iter().filter_map(Weak::upgrade));
        open.into_iter().for_each(act);
    }

    fn open_ones(&self) -> MutexGuard<'_, Vec<Weak<Writer>>> {
        // Nothing that is done under the lock can be half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
