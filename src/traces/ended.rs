//! What is kept of a request until its spans are made. All of it is copied: what a head's fields share is the whole head.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Version, header};
use pingora::http::RequestHeader;

use crate::pool::Pool;
use crate::record::{Attempt, Ending, Record, Trace};

/// Bytes that are kept of any text that a client chose: requests wait in a queue, and their number alone bounds no memory.
const LONGEST_TEXT: usize = 1_024;

/// A request that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) trace: Trace,
    /// When it began, by the wall clock.
    pub(super) at: SystemTime,
    /// The same moment by the clock of the attempts.
    pub(super) began: Instant,
    pub(super) took: Duration,
    pub(super) queued: Duration,
    pub(super) head: Option<Head>,
    pub(super) client: Option<IpAddr>,
    pub(super) tls: bool,
    pub(super) status: Option<u16>,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) pool: Option<Arc<Pool>>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) ending: Ending,
    pub(super) id: Option<String>,
}

/// What is kept of a request's head. The query is not: it may hold what only the host should know.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) authority: Option<String>,
    pub(super) user_agent: Option<String>,
    pub(super) version: Version,
}

impl Ended {
    pub(super) fn new(record: &Record<'_>, trace: Trace) -> Self {
        let now = SystemTime::now();
        Ended {
            trace,
            at: now.checked_sub(record.took).unwrap_or(now),
            began: record.began,
            took: record.took,
            queued: record.queued,
            head: record.request.map(Head::new),
            client: record.client,
            tls: record.tls,
            status: record.status,
            received: record.received,
            sent: record.sent,
            pool: record.pool.map(|(_, pool)| Arc::clone(pool)),
            attempts: record.attempts.to_vec(),
            ending: record.ending,
            id: record.id.map(text),
        }
    }
}

impl Head {
    fn new(request: &RequestHeader) -> Self {
        let field = |name| request.headers.get(name).map(text);
        let authority = request.uri.authority();
        Head {
            method: cut(request.method.as_str()),
            path: cut(request.uri.path()),
            authority: authority.map_or_else(
                || field(header::HOST),
                |authority| Some(cut(authority.as_str())),
            ),
            user_agent: field(header::USER_AGENT),
            version: request.version,
        }
    }
}

fn text(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    cut(&String::from_utf8_lossy(
        &bytes[..bytes.len().min(LONGEST_TEXT)],
    ))
}

/// The beginning of a text, in whole characters.
fn cut(text: &str) -> String {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        let long = "x".repeat(LONGEST_TEXT - 1) + "é";
        assert_eq!(cut(&long).len(), LONGEST_TEXT - 1);
        assert_eq!(cut("é"), "é");
    }
}
