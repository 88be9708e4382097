//! What is kept of a request until its spans are made. All of it is copied: what a head's fields share is the whole head.

use std::borrow::Cow;
use std::time::SystemTime;

use http::header;

use crate::record::{Attempt, RequestRecord, RequestSummary, TraceContext};

/// Bytes that are kept of any text that a client chose: requests wait in a queue, and their number alone bounds no memory.
const MAX_TEXT: u16 = 1_024;

/// A request that has ended.
#[derive(Debug)]
pub(super) struct FinishedRequest {
    pub(super) trace: TraceContext,
    /// When it began, by the wall clock.
    pub(super) started: SystemTime,
    pub(super) summary: RequestSummary,
    pub(super) attempts: Vec<Attempt>,
    /// One behind the other, and how long each is.
    texts: Vec<u8>,
    lengths: [Option<u16>; TEXT_COUNT],
}

/// The texts of a request. Its query is none of them: it may hold what only the host should know.
#[derive(Debug, Clone, Copy)]
pub(super) enum RequestText {
    Method,
    Path,
    Authority,
    UserAgent,
    Pool,
    Id,
}

const TEXT_COUNT: usize = RequestText::Id as usize + 1;

impl FinishedRequest {
    pub(super) fn new(record: &RequestRecord<'_>, trace: TraceContext) -> Self {
        let now = SystemTime::now();
        let request = record.request;
        let texts = [
            request.map(|request| request.method.as_str().as_bytes()),
            request.map(|request| path(request.uri())),
            record.authority(),
            record.field(&header::USER_AGENT),
            record.pool.map(|(_, pool)| pool.name().as_bytes()),
            record.id,
        ];
        let texts = texts.map(|text| text.map(truncated));
        let mut all = Vec::with_capacity(texts.iter().flatten().map(|text| text.len()).sum());
        texts.iter().flatten().for_each(|text| all.extend(*text));
        FinishedRequest {
            trace,
            started: now.checked_sub(record.summary.duration).unwrap_or(now),
            summary: record.summary,
            attempts: record.attempts.to_vec(),
            texts: all,
            lengths: texts.map(|text| text.map(|text| text.len() as u16)),
        }
    }

    /// What is not text in it stands as U+FFFD.
    pub(super) fn text(&self, text: RequestText) -> Option<Cow<'_, str>> {
        let length = usize::from(self.lengths[text as usize]?);
        let before = self.lengths[..text as usize].iter().flatten();
        let begin = before.copied().map(usize::from).sum();
        let text = self.texts.get(begin..)?.get(..length)?;
        Some(String::from_utf8_lossy(text))
    }
}

/// The path of a target without its query; a server as a whole has the path `/`.
fn path(uri: &[u8]) -> &[u8] {
    let path = uri.split(|&byte| byte == b'?').next();
    path.filter(|path| !path.is_empty()).unwrap_or(b"/")
}

/// As much of a text as is kept, in whole characters.
fn truncated(text: &[u8]) -> &[u8] {
    let is_amid = |end| text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80);
    let mut end = text.len().min(MAX_TEXT.into());
    while end > 0 && is_amid(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        let most = usize::from(MAX_TEXT);
        let long = "x".repeat(most - 1) + "é";
        assert_eq!(truncated(long.as_bytes()).len(), most - 1);
        assert_eq!(truncated("é".as_bytes()), "é".as_bytes());
        assert_eq!(truncated(&vec![0x80; 2 * most]), b"");
    }
}
