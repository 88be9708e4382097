//! What is kept of a request until its spans are made. All of it is copied: what a head's fields share is the whole head.

use std::borrow::Cow;
use std::time::SystemTime;

use http::header;

use crate::record::{Attempt, Record, Summary, Trace};

/// Bytes that are kept of any text that a client chose: requests wait in a queue, and their number alone bounds no memory.
const LONGEST_TEXT: u16 = 1_024;

/// A request that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) trace: Trace,
    /// When it began, by the wall clock.
    pub(super) at: SystemTime,
    pub(super) summary: Summary,
    pub(super) attempts: Vec<Attempt>,
    /// One behind the other, and how long each is.
    texts: Vec<u8>,
    lengths: [Option<u16>; TEXTS],
}

/// The texts of a request. Its query is none of them: it may hold what only the host should know.
#[derive(Debug, Clone, Copy)]
pub(super) enum Text {
    Method,
    Path,
    Authority,
    UserAgent,
    Pool,
    Id,
}

const TEXTS: usize = Text::Id as usize + 1;

impl Ended {
    pub(super) fn new(record: &Record<'_>, trace: Trace) -> Self {
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
        let texts = texts.map(|text| text.map(beginning));
        let mut all = Vec::with_capacity(texts.iter().flatten().map(|text| text.len()).sum());
        texts.iter().flatten().for_each(|text| all.extend(*text));
        Ended {
            trace,
            at: now.checked_sub(record.summary.took).unwrap_or(now),
            summary: record.summary,
            attempts: record.attempts.to_vec(),
            texts: all,
            lengths: texts.map(|text| text.map(|text| text.len() as u16)),
        }
    }

    /// What is not text in it stands as U+FFFD.
    pub(super) fn text(&self, text: Text) -> Option<Cow<'_, str>> {
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
fn beginning(text: &[u8]) -> &[u8] {
    let is_amid = |end| text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80);
    let mut end = text.len().min(LONGEST_TEXT.into());
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
        let most = usize::from(LONGEST_TEXT);
        let long = "x".repeat(most - 1) + "é";
        assert_eq!(beginning(long.as_bytes()).len(), most - 1);
        assert_eq!(beginning("é".as_bytes()), "é".as_bytes());
        assert_eq!(beginning(&vec![0x80; 2 * most]), b"");
    }
}
