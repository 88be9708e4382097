//! The access log: one line for each request, written outside the request's path.
//!
//! A request copies its facts into a bounded queue; a writer thread formats and writes the lines. A pipe without a
//! reader or a full disk blocks only that thread: requests that find the queue full have no line, which is counted and
//! logged.

mod combined;
mod entry_batch;
mod entry_queue;
mod json;
mod json_object;
mod log_file;
mod log_writer;
mod open_logs;
mod sampling;
mod timestamp_formatter;

use std::sync::Arc;

use crate::config::{self, LogFormat};
use crate::record::{Observer, RequestRecord};
use crate::thread_random::thread_random;

use entry_batch::NewEntry;
pub use log_file::check_writable;
use log_writer::LogWriter;
pub use open_logs::OpenLogs;

/// The access log of a configuration.
#[derive(Debug)]
pub struct AccessLogger {
    config: config::AccessLog,
    writer: Arc<LogWriter>,
}

impl Observer for AccessLogger {
    fn on_request_end(&self, record: &RequestRecord<'_>) {
        if !sampling::is_sampled(&self.config.sample, record.summary.status, thread_random) {
            return;
        }
        let user = match self.config.format {
            LogFormat::Json => None,
            LogFormat::Combined => record.request.and_then(combined::basic_auth_user),
        };
        let new_entry = NewEntry::new(record, self.config.format, user.as_deref());
        self.writer.push(&new_entry);
    }
}
