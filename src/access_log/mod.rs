//! The access log: one line for each request, written off its path.
//!
//! A request formats its line and leaves it in a bounded buffer; a thread of the log's own writes what is there. A pipe
//! that nobody reads, or a disk that is full, stops that thread alone: lines that find the buffer full are lost, which is
//! counted and told in the process's own log.

mod combined;
mod json;
mod logs;
mod object;
mod queue;
mod sample;
mod sink;
mod writer;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::{self, LogFormat};
use crate::record::{Observer, Record};

pub use logs::Logs;
pub use sink::check;
use writer::Writer;

thread_local! {
    /// The line that is being made. No longer than a few times a request's head may be.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a site has written about its requests.
#[derive(Debug)]
pub struct AccessLog {
    said: config::AccessLog,
    writer: Arc<Writer>,
}

impl Observer for AccessLog {
    fn ended(&self, record: &Record<'_>) {
        if !sample::is_chosen(&self.said.samples, record.status, sample::draw) {
            return;
        }
        let now = SystemTime::now();
        LINE.with_borrow_mut(|line| {
            line.clear();
            match self.said.format {
                LogFormat::Json => json::write(line, record, now),
                LogFormat::Combined => combined::write(line, record, now),
            }
            line.push(b'\n');
            self.writer.put(line);
        });
    }
}
