//! A parsed head, as ranges of the received bytes.
//!
//! A [`MessageHead`] copies nothing: it stores where each part begins and how long it is, and callers pass the same
//! bytes again to read a part. It accepts and refuses the same heads as Pingora's sessions: it uses the same parser
//! with the same options and, for requests, `RequestLineScanner` before it.

mod parse;

use super::encode::{LINE_END, write_field};
pub(crate) use parse::MAX_FIELDS;
use parse::ScanState;

/// The head of a message, as ranges of its bytes. It is created once per connection and reused for each message, with
/// its allocations.
#[derive(Debug, Default)]
pub struct MessageHead {
    scan: ScanState,
    version: HeadVersion,
    method: ByteRange,
    target: ByteRange,
    status: u16,
    reason: ByteRange,
    fields: Vec<FieldRange>,
    /// The union of the names' [bits](name_bit), a small Bloom filter: most lookups are for absent fields.
    name_bits: u64,
    /// Folded values, joined to one line each. Only hosts may send them.
    unfolded: Vec<u8>,
}

/// A field of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderField<'a> {
    /// As sent; the case is kept.
    pub name: &'a [u8],
    /// Without surrounding white space.
    pub value: &'a [u8],
}

/// A field that is to be written again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldLine<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    /// The line as received, where it is just what [`write_field`] would write.
    pub(super) received: Option<&'a [u8]>,
}

impl FieldLine<'_> {
    /// Appends the field to a head.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self.received {
            Some(line) => out.extend_from_slice(line),
            None => write_field(out, self.name, self.value),
        }
    }
}

/// Iterates over the fields of a head in their order.
#[derive(Debug, Clone)]
pub struct HeaderFields<'a> {
    head: &'a MessageHead,
    bytes: &'a [u8],
    lines: std::slice::Iter<'a, FieldRange>,
}

impl<'a> HeaderFields<'a> {
    fn of(&self, line: &FieldRange) -> HeaderField<'a> {
        HeaderField {
            name: line.name(self.bytes),
            value: self.head.value(line, self.bytes),
        }
    }

    /// The next field with its line.
    pub(super) fn next_line(&mut self) -> Option<FieldLine<'a>> {
        let line = self.lines.next()?;
        let HeaderField { name, value } = self.of(line);
        Some(FieldLine {
            name,
            value,
            received: line.canonical(self.bytes),
        })
    }

    /// The value of the next field named `name`, which is in lower case.
    pub(super) fn next_named(&mut self, name: &str) -> Option<&'a [u8]> {
        let bytes = self.bytes;
        let line = self.lines.find(|line| line.is_named(name, bytes))?;
        Some(self.head.value(line, bytes))
    }

    /// Like [`next_named`](Self::next_named), from the end.
    pub(super) fn next_back_named(&mut self, name: &str) -> Option<&'a [u8]> {
        let bytes = self.bytes;
        let line = self.lines.rfind(|line| line.is_named(name, bytes))?;
        Some(self.head.value(line, bytes))
    }
}

impl<'a> Iterator for HeaderFields<'a> {
    type Item = HeaderField<'a>;

    fn next(&mut self) -> Option<HeaderField<'a>> {
        let line = self.lines.next()?;
        Some(self.of(line))
    }
}

impl DoubleEndedIterator for HeaderFields<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let line = self.lines.next_back()?;
        Some(self.of(line))
    }
}

/// The result of reading a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadProgress {
    /// More bytes are needed.
    Partial,
    /// The head is complete and has this many bytes, including empty lines before it.
    Complete(usize),
}

/// Why a head is refused. The caller chooses the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// The head violates the HTTP grammar.
    Malformed,
    /// The head has too many fields. Method and target of a request are readable.
    TooManyFields,
    /// The request's target contains a `#`, which no client may send. All parts are readable.
    FragmentInTarget,
}

/// The HTTP version of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum HeadVersion {
    Http10,
    #[default]
    Http11,
}

impl From<HeadVersion> for http::Version {
    fn from(version: HeadVersion) -> Self {
        match version {
            HeadVersion::Http10 => http::Version::HTTP_10,
            HeadVersion::Http11 => http::Version::HTTP_11,
        }
    }
}

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageKind {
    Request,
    Response,
}

/// The position of a part of a head.
#[derive(Debug, Clone, Copy, Default)]
struct ByteRange {
    at: u32,
    length: u32,
}

/// The position of a field. The value is in `MessageHead::unfolded` if `unfolded` is set, else in the head's own bytes.
#[derive(Debug, Clone, Copy)]
struct FieldRange {
    value: ByteRange,
    name_at: u32,
    /// The `http` crate accepts no longer names.
    name_length: u16,
    unfolded: bool,
}

impl MessageHead {
    /// Reads the head of a request at the front of `bytes`. After [`HeadProgress::Partial`] the caller repeats this
    /// with the same bytes and more after them; after any other result a new head begins.
    pub(crate) fn read_request(
        &mut self,
        bytes: &[u8],
        max_fields: usize,
    ) -> Result<HeadProgress, HeadError> {
        self.read(MessageKind::Request, bytes, max_fields)
    }

    /// Reads the head of a response, as [`read_request`](Self::read_request) does.
    pub(crate) fn read_response(
        &mut self,
        bytes: &[u8],
        max_fields: usize,
    ) -> Result<HeadProgress, HeadError> {
        self.read(MessageKind::Response, bytes, max_fields)
    }

    /// Discards a partly read head.
    pub(crate) fn clear(&mut self) {
        self.scan = ScanState::START;
        self.fields.clear();
        self.name_bits = 0;
    }

    /// The method of a request.
    pub(crate) fn method<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.method.of(bytes)
    }

    /// The target of a request as sent.
    pub(crate) fn target<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.target.of(bytes)
    }

    pub(crate) fn version(&self) -> HeadVersion {
        self.version
    }

    /// The status of a response, 100 to 999.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase of a response; empty if it is missing or not ASCII.
    pub(crate) fn reason<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.reason.of(bytes)
    }

    /// The number of fields, without removed ones.
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// All fields in order, without removed ones.
    pub(crate) fn fields<'a>(&'a self, bytes: &'a [u8]) -> HeaderFields<'a> {
        HeaderFields {
            head: self,
            bytes,
            lines: self.fields.iter(),
        }
    }

    /// The value of the first field named `name`, which is in lower case.
    pub(crate) fn get<'a>(&'a self, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
        self.candidates(bytes, name).next_named(name)
    }

    /// A superset of the fields named `name`, which is in lower case; empty if the Bloom filter excludes the name.
    pub(super) fn candidates<'a>(&'a self, bytes: &'a [u8], name: &str) -> HeaderFields<'a> {
        let name_bit = name_bit(name.as_bytes());
        let lines = match self.name_bits & name_bit == name_bit {
            true => self.fields.as_slice(),
            false => &[],
        };
        HeaderFields {
            head: self,
            bytes,
            lines: lines.iter(),
        }
    }

    /// Removes the fields for whose name `drops` returns true.
    pub(crate) fn remove(&mut self, bytes: &[u8], mut drops: impl FnMut(&[u8]) -> bool) {
        self.fields.retain(|line| !drops(line.name(bytes)));
    }

    fn value<'a>(&'a self, line: &FieldRange, bytes: &'a [u8]) -> &'a [u8] {
        match line.unfolded {
            true => line.value.of(&self.unfolded),
            false => line.value.of(bytes),
        }
    }
}

impl ByteRange {
    /// Heads are limited to far less than 4 GiB.
    fn new(at: usize, length: usize) -> Self {
        ByteRange {
            at: at as u32,
            length: length as u32,
        }
    }

    /// The position of `part` in `bytes`, of which it must be a subslice; an empty part may be anywhere.
    fn among(bytes: &[u8], part: &[u8]) -> Self {
        match part {
            [] => ByteRange::default(),
            _ => ByteRange::new(part.as_ptr().addr() - bytes.as_ptr().addr(), part.len()),
        }
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        let at = self.at as usize;
        &bytes[at..at + self.length as usize]
    }
}

/// The Bloom filter bit of a name, independent of case.
fn name_bit(name: &[u8]) -> u64 {
    let first = name.first().map_or(0, |first| usize::from(first | 0x20));
    1 << ((first * 5 + name.len() * 11) % 64)
}

impl FieldRange {
    fn is_named(&self, name: &str, bytes: &[u8]) -> bool {
        usize::from(self.name_length) == name.len()
            && self.name(bytes).eq_ignore_ascii_case(name.as_bytes())
    }

    /// The line, if it is `name: value` with CRLF at its end.
    fn canonical<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let name_at = self.name_at as usize;
        let colon_at = name_at + usize::from(self.name_length);
        let value_at = self.value.at as usize;
        let end = value_at + self.value.length as usize;
        let is_canonical = !self.unfolded
            && value_at == colon_at + 2
            && bytes.get(colon_at..value_at) == Some(b": ")
            && bytes.get(end..end + 2) == Some(LINE_END);
        is_canonical.then(|| &bytes[name_at..end + 2])
    }

    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        ByteRange::new(self.name_at as usize, usize::from(self.name_length)).of(bytes)
    }
}

#[cfg(test)]
mod tests;
