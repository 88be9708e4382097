//! The access log: one line for each request, written off its path.
//!
//! A request leaves its facts in a bounded buffer; a thread of the log's own makes lines of them and writes these. A pipe
//! that nobody reads, or a disk that is full, stops that thread alone: requests that find the buffer full have no line,
//! which is counted and told in the process's own log.

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

use crate::balancer::thread_random;
use crate::config::{self, LogFormat};
use crate::record::{Observer, RequestRecord};

use entry_batch::NewEntry;
pub use log_file::check_writable;
use log_writer::LogWriter;
pub use open_logs::OpenLogs;

/// What a site has written about its requests.
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
