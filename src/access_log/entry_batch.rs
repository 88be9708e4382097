//! Batches of requests whose lines are not formatted yet: the facts, and copies of the texts in one buffer.
//!
//! The writer thread formats the lines. So no request waits for it, and formatting many lines in a row costs less than
//! formatting each one between two requests, with cold caches.

use std::time::Duration;

use http::header;

use crate::config::LogFormat;
use crate::pool::SelectionReason;
use crate::record::{AttemptOutcome, RequestRecord, RequestSummary, TRACEPARENT};

/// The texts of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum EntryText {
    Method,
    Target,
    /// The Host field, or the authority of HTTP/2.
    Authority,
    Pool,
    Id,
    /// The client's traceparent, if the proxy does no tracing.
    Traceparent,
    UserAgent,
    Referer,
    /// The user name of HTTP basic authentication, if the format needs it.
    User,
    /// The verdict about the client's certificate, where it was asked for one.
    ClientVerify,
    /// The subject of the client's certificate.
    ClientSubject,
}

const TEXT_COUNT: usize = EntryText::ClientSubject as usize + 1;

/// The length that stands for an absent text. No head is that long, so no text is.
const ABSENT: u32 = u32::MAX;

/// A finished request, before its facts are copied.
#[derive(Debug)]
pub(super) struct NewEntry<'a> {
    record: &'a RequestRecord<'a>,
    format: LogFormat,
    texts: [Option<&'a [u8]>; TEXT_COUNT],
    /// The bytes that the entry takes in a batch.
    pub(super) bytes: usize,
}

/// The part of an entry that has a fixed size.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogEntry {
    pub(super) format: LogFormat,
    pub(super) summary: RequestSummary,
    /// The time from the request head to the response head.
    pub(super) first_byte: Option<Duration>,
    attempts: usize,
    /// The lengths of the texts, in order of [`EntryText`]; [`ABSENT`] for an absent one.
    lengths: [u32; TEXT_COUNT],
}

/// An attempt without its host's name.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttemptEntry {
    pub(super) selection_reason: SelectionReason,
    pub(super) outcome: AttemptOutcome,
    pub(super) status: Option<u16>,
    pub(super) connect_time: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    pub(super) duration: Option<Duration>,
    pub(super) reused: bool,
    pub(super) span: Option<u64>,
    /// The length of the host's name.
    length: usize,
}

impl<'a> NewEntry<'a> {
    /// Collects what the line of a request needs. `user` is the user name of HTTP basic authentication.
    pub(super) fn new(
        record: &'a RequestRecord<'a>,
        format: LogFormat,
        user: Option<&'a [u8]>,
    ) -> Self {
        let request = record.request;
        // With tracing, the value that was sent to the host is in `summary.trace`.
        let traceparent = match record.summary.trace {
            Some(_) => None,
            None => record.field(&TRACEPARENT),
        };
        let texts = [
            request.map(|request| request.method.as_str().as_bytes()),
            request.map(|request| request.target),
            record.authority(),
            record.pool.map(|(_, pool)| pool.name().as_bytes()),
            record.id,
            traceparent,
            record.field(&header::USER_AGENT),
            record.field(&header::REFERER),
            user,
            record
                .verification
                .map(|verification| verification.verdict().as_bytes()),
            record
                .verification
                .and_then(|verification| verification.subject())
                .map(str::as_bytes),
        ];
        let length: usize = texts.iter().flatten().map(|text| text.len()).sum();
        let attempts = record.attempts.iter();
        let attempts =
            attempts.map(|attempt| size_of::<AttemptEntry>() + attempt.host.as_str().len());
        NewEntry {
            record,
            format,
            texts,
            bytes: size_of::<LogEntry>() + length + attempts.sum::<usize>(),
        }
    }
}

/// Finished requests, in order.
#[derive(Debug, Default)]
pub(super) struct EntryBatch {
    entries: Vec<LogEntry>,
    attempts: Vec<AttemptEntry>,
    texts: Vec<u8>,
}

impl EntryBatch {
    pub(super) fn push(&mut self, new_entry: &NewEntry<'_>) {
        let NewEntry { record, texts, .. } = new_entry;
        let length = |text: Option<&[u8]>| match text {
            Some(text) => text.len() as u32,
            None => ABSENT,
        };
        self.entries.push(LogEntry {
            format: new_entry.format,
            summary: record.summary,
            first_byte: record.attempts.last().and_then(|last| {
                let offset = last.began.saturating_duration_since(record.summary.began);
                Some(offset + last.first_byte?)
            }),
            attempts: record.attempts.len(),
            lengths: texts.map(length),
        });
        for text in texts.iter().flatten() {
            self.texts.extend_from_slice(text);
        }
        for attempt in record.attempts {
            let host = attempt.host.as_str().as_bytes();
            self.texts.extend_from_slice(host);
            self.attempts.push(AttemptEntry {
                selection_reason: attempt.selection_reason,
                outcome: attempt.outcome,
                status: attempt.status,
                connect_time: attempt.connect_time,
                first_byte: attempt.first_byte,
                duration: attempt.duration,
                reused: attempt.reused,
                span: attempt.span,
                length: host.len(),
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of requests.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The memory that the batch takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let entries = self.entries.len() * size_of::<LogEntry>();
        entries + self.attempts.len() * size_of::<AttemptEntry>() + self.texts.len()
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.attempts.clear();
        self.texts.clear();
    }

    /// Iterates over the entries.
    pub(super) fn lines(&self) -> impl Iterator<Item = EntryView<'_>> {
        let (mut texts, mut attempts) = (&self.texts[..], &self.attempts[..]);
        self.entries.iter().map(move |entry| {
            let line_attempts = cut(&mut attempts, entry.attempts);
            EntryView {
                entry,
                texts: entry
                    .lengths
                    .map(|length| (length != ABSENT).then(|| cut(&mut texts, length as usize))),
                attempts: line_attempts,
                hosts: cut(
                    &mut texts,
                    line_attempts.iter().map(|attempt| attempt.length).sum(),
                ),
            }
        })
    }
}

/// Removes the first `count` items and returns them.
fn cut<'a, T>(items: &mut &'a [T], count: usize) -> &'a [T] {
    let (first, rest) = items.split_at(count);
    *items = rest;
    first
}

/// An entry, as the formatters read it.
#[derive(Debug)]
pub(super) struct EntryView<'a> {
    pub(super) entry: &'a LogEntry,
    texts: [Option<&'a [u8]>; TEXT_COUNT],
    attempts: &'a [AttemptEntry],
    /// The host names of the attempts, concatenated.
    hosts: &'a [u8],
}

impl<'a> EntryView<'a> {
    pub(super) fn text(&self, text: EntryText) -> Option<&'a [u8]> {
        self.texts[text as usize]
    }

    /// The attempts, each with its host's name.
    pub(super) fn attempts(&self) -> impl Iterator<Item = (&'a AttemptEntry, &'a [u8])> {
        let mut hosts = self.hosts;
        let attempts = self.attempts.iter();
        attempts.map(move |attempt| (attempt, cut(&mut hosts, attempt.length)))
    }

    /// The last attempt, with its host's name.
    pub(super) fn last(&self) -> Option<(&'a AttemptEntry, &'a [u8])> {
        let last = self.attempts.last()?;
        Some((last, &self.hosts[self.hosts.len() - last.length..]))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pingora::http::RequestHeader;

    use super::*;
    use crate::record::{Attempt, TerminationReason};
    use ballast_balancer::Host;

    #[test]
    fn entries_are_read_as_they_were_pushed() {
        let mut request = RequestHeader::build("GET", b"/a?b", None).expect("a request");
        let inserted = request.insert_header("User-Agent", "u");
        inserted.expect("a field");
        let attempts = ["127.0.0.1:81", "[::1]:8082"].map(|address| {
            let host = Host::new(address.parse().expect("an address"));
            Attempt::begin(&host, 0, SelectionReason::Balanced, Instant::now())
        });
        let mut record = RequestRecord::without_head(
            std::time::Instant::now(),
            None,
            false,
            Some(200),
            7,
            TerminationReason::Complete,
        );
        let mut batch = EntryBatch::default();
        let mut bytes = 0;
        for part in 0..=2 {
            record.attempts = &attempts[..part];
            record.request = (part > 0).then(|| (&request).into());
            let new_entry = NewEntry::new(&record, LogFormat::Json, None);
            bytes += new_entry.bytes;
            batch.push(&new_entry);
            assert_eq!(batch.bytes(), bytes);
        }
        let lines = Vec::from_iter(batch.lines());
        let hosts = |line: &EntryView<'_>| {
            let hosts = line.attempts().map(|(_, host)| host);
            Vec::from_iter(hosts.map(|host| String::from_utf8_lossy(host).into_owned()))
        };
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].text(EntryText::Method), None);
        assert!(lines[0].last().is_none());
        assert_eq!(lines[1].text(EntryText::Target), Some(&b"/a?b"[..]));
        assert_eq!(lines[2].text(EntryText::UserAgent), Some(&b"u"[..]));
        assert_eq!(lines[2].text(EntryText::Referer), None);
        assert_eq!(hosts(&lines[1]), ["127.0.0.1:81"]);
        assert_eq!(hosts(&lines[2]), ["127.0.0.1:81", "[::1]:8082"]);
        assert_eq!(
            lines[2].last().map(|(_, host)| host),
            Some(&b"[::1]:8082"[..])
        );
        assert_eq!(lines[2].entry.summary.sent, 7);
        batch.clear();
        assert!(batch.is_empty() && batch.bytes() == 0);
    }
}
