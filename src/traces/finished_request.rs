//! The copy of a request from which its spans are built. Nothing is shared with the request, because a reference to one
//! field would keep the whole head in memory.

use std::borrow::Cow;
use std::time::SystemTime;

use http::header;

use crate::record::{Attempt, RequestRecord, RequestSummary, TraceContext};

/// The maximum length of a text that a client chose. Requests wait in a queue, and limiting their number alone does not
/// limit memory.
const MAX_TEXT: u16 = 1_024;

/// A finished request.
#[derive(Debug)]
pub(super) struct FinishedRequest {
    pub(super) trace: TraceContext,
    /// When the request began, by the wall clock.
    pub(super) started: SystemTime,
    pub(super) summary: RequestSummary,
    pub(super) attempts: Vec<Attempt>,
    /// The texts, concatenated, and their lengths.
    texts: Vec<u8>,
    lengths: [Option<u16>; TEXT_COUNT],
}

/// The texts of a request. The query is not among them: it may contain secrets between client and host.
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

    /// A text; invalid UTF-8 in it becomes U+FFFD.
    pub(super) fn text(&self, text: RequestText) -> Option<Cow<'_, str>> {
        let length = usize::from(self.lengths[text as usize]?);
        let preceding = self.lengths[..text as usize].iter().flatten();
        let begin = preceding.copied().map(usize::from).sum();
        let text = self.texts.get(begin..)?.get(..length)?;
        Some(String::from_utf8_lossy(text))
    }
}

/// The path of a target without its query; `/` for an empty path.
fn path(uri: &[u8]) -> &[u8] {
    let path = uri.split(|&byte| byte == b'?').next();
    path.filter(|path| !path.is_empty()).unwrap_or(b"/")
}

/// Truncates a text to [`MAX_TEXT`], between characters.
fn truncated(text: &[u8]) -> &[u8] {
    let splits_character = |end| text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80);
    let mut end = text.len().min(MAX_TEXT.into());
    while end > 0 && splits_character(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_truncated_between_characters() {
        let max = usize::from(MAX_TEXT);
        let long = "x".repeat(max - 1) + "é";
        assert_eq!(truncated(long.as_bytes()).len(), max - 1);
        assert_eq!(truncated("é".as_bytes()), "é".as_bytes());
        assert_eq!(truncated(&vec![0x80; 2 * max]), b"");
    }
}
