//! The open logs of the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::AccessLogger;
use super::log_writer::LogWriter;
use crate::config;

/// How long the end of the process may wait for lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The open logs of the process: the one of the site, and those of sites that it has replaced whose last requests run.
#[derive(Debug, Default)]
pub struct OpenLogs {
    open: Mutex<Vec<Weak<LogWriter>>>,
    /// Lines lost by all logs that the process ever had.
    lost: Arc<AtomicU64>,
}

impl OpenLogs {
    /// The log that `config` asks for: one that is open already, if it is the same file.
    ///
    /// # Errors
    /// One line for a person: it cannot be opened.
    pub fn open(&self, config: &config::AccessLog) -> Result<AccessLogger, String> {
        let mut open = self.lock_open();
        open.retain(|writer| writer.strong_count() > 0);
        let open_logs = open.iter().filter_map(Weak::upgrade);
        let writer = match open_logs.into_iter().find(|writer| writer.matches(config)) {
            Some(writer) => writer,
            None => {
                let writer = Arc::new(LogWriter::start(config, &self.lost)?);
                open.push(Arc::downgrade(&writer));
                writer
            }
        };
        Ok(AccessLogger {
            config: config.clone(),
            writer,
        })
    }

    /// Has all files opened anew, after they were renamed.
    pub fn reopen(&self) {
        self.each(|writer| writer.reopen());
    }

    /// Waits until everything is written, but no longer than a second.
    pub fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        self.each(|writer| writer.flush(deadline));
    }

    /// Lines lost since the process began, by every log that it has had.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn each(&self, act: impl FnMut(Arc<LogWriter>)) {
        let open = Vec::from_iter(self.lock_open().iter().filter_map(Weak::upgrade));
        open.into_iter().for_each(act);
    }

    fn lock_open(&self) -> MutexGuard<'_, Vec<Weak<LogWriter>>> {
        // Nothing that is done under the lock can be half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
