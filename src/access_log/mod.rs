//! The access log: one line for each request, written off its path.
//!
//! A request leaves its facts in a bounded buffer; a thread of the log's own makes lines of them and writes these. A pipe
//! that nobody reads, or a disk that is full, stops that thread alone: requests that find the buffer full have no line,
//! which is counted and told in the process's own log.

mod clock;
mod combined;
mod entry;
mod json;
mod logs;
mod object;
mod queue;
mod sample;
mod sink;
mod writer;

use std::sync::Arc;

use crate::balancer::draw_of_thread;
use crate::config::{self, LogFormat};
use crate::record::{Observer, Record};

use entry::Facts;
pub use logs::Logs;
pub use sink::check;
use writer::Writer;

/// What a site has written about its requests.
#[derive(Debug)]
pub struct AccessLog {
    said: config::AccessLog,
    writer: Arc<Writer>,
}

impl Observer for AccessLog {
    fn ended(&self, record: &Record<'_>) {
        if !sample::is_chosen(&self.said.sample, record.summary.status, draw_of_thread) {
            return;
        }
        let user = match self.said.format {
            LogFormat::Json => None,
            LogFormat::Combined => record.request.and_then(combined::user),
        };
        let facts = Facts::new(record, self.said.format, user.as_deref());
        self.writer.put(&facts);
    }
}
