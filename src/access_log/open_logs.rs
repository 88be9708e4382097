//! The registry of open access logs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::AccessLogger;
use super::log_writer::LogWriter;
use crate::config;

/// How long the exit of the process waits for lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The open logs of the process: the log of the active configuration, and those of earlier ones whose last requests
/// still run.
#[derive(Debug, Default)]
pub struct OpenLogs {
    open: Mutex<Vec<Weak<LogWriter>>>,
    /// The number of lines that all logs of the process have lost.
    lost: Arc<AtomicU64>,
}

impl OpenLogs {
    /// Opens the log of `config`, or returns the open one with the same target.
    ///
    /// # Errors
    /// A message of one line: the log cannot be opened.
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

    /// Asks for all files to be reopened after a rotation.
    pub fn reopen(&self) {
        self.for_each(|writer| writer.reopen());
    }

    /// Waits until everything is written, for at most one second.
    pub fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        self.for_each(|writer| writer.flush(deadline));
    }

    /// The number of lines lost since the process started, in all logs.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn for_each(&self, action: impl FnMut(Arc<LogWriter>)) {
        let open = Vec::from_iter(self.lock_open().iter().filter_map(Weak::upgrade));
        open.into_iter().for_each(action);
    }

    fn lock_open(&self) -> MutexGuard<'_, Vec<Weak<LogWriter>>> {
        // A panic cannot leave the list inconsistent, so a poisoned lock is safe to use.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
