//! The head of a message where it was read.
//!
//! A [`Head`] copies nothing: it keeps where each part begins and how long it is, and takes the bytes again from whoever
//! asks for a part. What it accepts and refuses is what Pingora's sessions accept and refuse: the same parser with the
//! same options, and `RequestLine` before it for requests.

mod parse;

pub(crate) use parse::MOST_FIELDS;
use parse::Scan;

/// A message's head, as ranges of its bytes. It is made once per connection and used again for each message: its lists
/// keep their room.
#[derive(Debug, Default)]
pub struct Head {
    scan: Scan,
    version: Version,
    method: Span,
    target: Span,
    status: u16,
    reason: Span,
    fields: Vec<Line>,
    /// The [marks](mark) of all their names: most fields that are asked for are not there.
    names: u64,
    /// Values that came on more than one line, as one; only hosts may send such.
    unfolded: Vec<u8>,
}

/// A field of a head. White space around the value is taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// As it was sent: upper and lower case are kept.
    pub name: &'a [u8],
    /// Without white space around it.
    pub value: &'a [u8],
}

/// The fields of a head, in the order they came.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    head: &'a Head,
    bytes: &'a [u8],
    lines: std::slice::Iter<'a, Line>,
}

impl<'a> Fields<'a> {
    fn of(&self, line: &Line) -> Field<'a> {
        Field {
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

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let line = self.lines.next()?;
        Some(self.of(line))
    }
}

impl DoubleEndedIterator for Fields<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let line = self.lines.next_back()?;
        Some(self.of(line))
    }
}

/// How far a head has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
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
pub(crate) enum Version {
    Http10,
    #[default]
    Http11,
}

impl From<Version> for http::Version {
    fn from(version: Version) -> Self {
        match version {
            Version::Http10 => http::Version::HTTP_10,
            Version::Http11 => http::Version::HTTP_11,
        }
    }
}

/// What a head is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Response,
}

/// Where a part of a head is.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    at: u32,
    length: u32,
}

/// Where a field is. The value is among the unfolded ones or among the head's own bytes.
#[derive(Debug, Clone, Copy)]
struct Line {
    value: Span,
    name_at: u32,
    /// No name that the `http` crate takes is longer.
    name_length: u16,
    unfolded: bool,
}

impl Head {
    /// Reads the head of a request that `bytes` begin with. After [`Progress::Partial`] it is called again with these
    /// bytes and more behind them; after anything else a new head begins.
    pub(crate) fn read_request(
        &mut self,
        bytes: &[u8],
        max_fields: usize,
    ) -> Result<Progress, HeadError> {
        self.read(Kind::Request, bytes, max_fields)
    }

    /// Reads the head of a response, as [`read_request`](Self::read_request) does.
    pub(crate) fn read_response(
        &mut self,
        bytes: &[u8],
        max_fields: usize,
    ) -> Result<Progress, HeadError> {
        self.read(Kind::Response, bytes, max_fields)
    }

    /// Gives up a head that has come in part.
    pub(crate) fn clear(&mut self) {
        self.scan = Scan::START;
        self.fields.clear();
        self.names = 0;
    }

    /// The method of a request.
    pub(crate) fn method<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.method.of(bytes)
    }

    /// The target of a request as it was sent.
    pub(crate) fn target<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.target.of(bytes)
    }

    pub(crate) fn version(&self) -> Version {
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
    pub(crate) fn fields<'a>(&'a self, bytes: &'a [u8]) -> Fields<'a> {
        Fields {
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
    pub(super) fn candidates<'a>(&'a self, bytes: &'a [u8], name: &str) -> Fields<'a> {
        let mark = mark(name.as_bytes());
        let lines = match self.names & mark == mark {
            true => self.fields.as_slice(),
            false => &[],
        };
        Fields {
            head: self,
            bytes,
            lines: lines.iter(),
        }
    }

    /// Removes the fields whose name `drops` is true for, as if they had not come.
    pub(crate) fn remove(&mut self, bytes: &[u8], mut drops: impl FnMut(&[u8]) -> bool) {
        self.fields.retain(|line| !drops(line.name(bytes)));
    }

    fn value<'a>(&'a self, line: &Line, bytes: &'a [u8]) -> &'a [u8] {
        match line.unfolded {
            true => line.value.of(&self.unfolded),
            false => line.value.of(bytes),
        }
    }
}

impl Span {
    /// Heads are bounded to far less than 4 GiB.
    fn new(at: usize, length: usize) -> Self {
        Span {
            at: at as u32,
            length: length as u32,
        }
    }

    /// Where a part of `bytes` is among them; an empty part is anywhere.
    fn among(bytes: &[u8], part: &[u8]) -> Self {
        match part {
            [] => Span::default(),
            _ => Span::new(part.as_ptr().addr() - bytes.as_ptr().addr(), part.len()),
        }
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        let at = self.at as usize;
        &bytes[at..at + self.length as usize]
    }
}

/// A bit for a name, the same in upper and lower case.
fn mark(name: &[u8]) -> u64 {
    let first = name.first().map_or(0, |first| usize::from(first | 0x20));
    1 << ((first * 5 + name.len() * 11) % 64)
}

impl Line {
    fn is_named(&self, name: &str, bytes: &[u8]) -> bool {
        usize::from(self.name_length) == name.len()
            && self.name(bytes).eq_ignore_ascii_case(name.as_bytes())
    }

    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        Span::new(self.name_at as usize, usize::from(self.name_length)).of(bytes)
    }
}

#[cfg(test)]
mod tests;
