//! The head of a message where it was read.
//!
//! A [`MessageHead`] copies nothing: it keeps where each part begins and how long it is, and takes the bytes again from whoever
//! asks for a part. What it accepts and refuses is what Pingora's sessions accept and refuse: the same parser with the
//! same options, and `RequestLineScanner` before it for requests.

mod parse;

pub(crate) use parse::MAX_FIELDS;
use parse::ScanState;

/// A message's head, as ranges of its bytes. It is made once per connection and used again for each message: its lists
/// keep their room.
#[derive(Debug, Default)]
pub struct MessageHead {
    scan: ScanState,
    version: HeadVersion,
    method: ByteRange,
    target: ByteRange,
    status: u16,
    reason: ByteRange,
    fields: Vec<FieldRange>,
    /// The [marks](name_bit) of all their names: most fields that are asked for are not there.
    name_bits: u64,
    /// Values that came on more than one line, as one; only hosts may send such.
    unfolded: Vec<u8>,
}

/// A field of a head. White space around the value is taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderField<'a> {
    /// As it was sent: upper and lower case are kept.
    pub name: &'a [u8],
    /// Without white space around it.
    pub value: &'a [u8],
}

/// The fields of a head, in the order they came.
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

    /// The value of the next field with a name, which is given in lower case.
    pub(super) fn next_named(&mut self, name: &str) -> Option<&'a [u8]> {
        let bytes = self.bytes;
        let line = self.lines.find(|line| line.is_named(name, bytes))?;
        Some(self.head.value(line, bytes))
    }

    /// The same from the end.
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

/// How far a head has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadProgress {
    /// More has to be read.
    Partial,
    /// So many bytes are the head's, with the empty lines in front of it.
    Complete(usize),
}

/// Why a head is refused. What the answer is to that is decided elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// It is not what HTTP has in its place.
    Malformed,
    /// It has more fields than may be. Method and target of a request can be asked for.
    TooManyFields,
    /// The request's target has a `#`, which no client may send. All parts can be asked for.
    FragmentInTarget,
}

/// The version that a message says it has.
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

/// What a head is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageKind {
    Request,
    Response,
}

/// Where a part of a head is.
#[derive(Debug, Clone, Copy, Default)]
struct ByteRange {
    at: u32,
    length: u32,
}

/// Where a field is. The value is among the unfolded ones or among the head's own bytes.
#[derive(Debug, Clone, Copy)]
struct FieldRange {
    value: ByteRange,
    name_at: u32,
    /// No name that the `http` crate takes is longer.
    name_length: u16,
    unfolded: bool,
}

impl MessageHead {
    /// Reads the head of a request that `bytes` begin with. After [`HeadProgress::Partial`] it is called again with these
    /// bytes and more behind them; after anything else a new head begins.
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

    /// Gives up a head that has come in part.
    pub(crate) fn clear(&mut self) {
        self.scan = ScanState::START;
        self.fields.clear();
        self.name_bits = 0;
    }

    /// The method of a request.
    pub(crate) fn method<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.method.of(bytes)
    }

    /// The target of a request as it was sent.
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

    /// The reason phrase of a response; empty if it has none, or one that is not ASCII.
    pub(crate) fn reason<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.reason.of(bytes)
    }

    /// How many fields there are, without those removed.
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// All fields in the order they came, without those removed.
    pub(crate) fn fields<'a>(&'a self, bytes: &'a [u8]) -> HeaderFields<'a> {
        HeaderFields {
            head: self,
            bytes,
            lines: self.fields.iter(),
        }
    }

    /// The value of the first field with a name, which is given in lower case.
    pub(crate) fn get<'a>(&'a self, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
        self.candidates(bytes, name).next_named(name)
    }

    /// All fields that may have a name, which is given in lower case; those that have it are among them.
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

    /// Removes the fields whose name `drops` is true for, as if they had not come.
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
    /// Heads are bounded to far less than 4 GiB.
    fn new(at: usize, length: usize) -> Self {
        ByteRange {
            at: at as u32,
            length: length as u32,
        }
    }

    /// Where a part of `bytes` is among them; an empty part is anywhere.
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

/// A bit for a name, the same in upper and lower case.
fn name_bit(name: &[u8]) -> u64 {
    let first = name.first().map_or(0, |first| usize::from(first | 0x20));
    1 << ((first * 5 + name.len() * 11) % 64)
}

impl FieldRange {
    fn is_named(&self, name: &str, bytes: &[u8]) -> bool {
        usize::from(self.name_length) == name.len()
            && self.name(bytes).eq_ignore_ascii_case(name.as_bytes())
    }

    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        ByteRange::new(self.name_at as usize, usize::from(self.name_length)).of(bytes)
    }
}

#[cfg(test)]
mod tests;
