//! Incremental parsing of a head.
//!
//! A head that arrives in many pieces is not parsed for each piece, but once its end has arrived, and before that each
//! time its length has doubled. So an invalid head is refused early, and the total work stays linear.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Request, Response, Status};
use memchr::{memchr, memchr_iter};

use super::{
    ByteRange, FieldRange, HeadError, HeadProgress, HeadVersion, MessageHead, MessageKind, name_bit,
};
use crate::message::Malformed;
use crate::message::head_end_scanner::HeadEndScanner;
use crate::message::request_line_scanner::RequestLineScanner;

/// The maximum number of fields, the same as in Pingora's sessions.
pub(crate) const MAX_FIELDS: usize = 256;

/// What is known about an incomplete head.
#[derive(Debug)]
pub(super) struct ScanState {
    line: RequestLineScanner,
    /// Responses: whether anything but empty lines has arrived.
    begun: bool,
    end: HeadEndScanner,
    /// The number of bytes scanned.
    seen: usize,
    /// The number of bytes at the last parse.
    pub(super) parsed: usize,
}

impl MessageHead {
    pub(super) fn read(
        &mut self,
        kind: MessageKind,
        bytes: &[u8],
        max_fields: usize,
    ) -> Result<HeadProgress, HeadError> {
        let outcome = self.advance(kind, bytes, max_fields);
        if outcome != Ok(HeadProgress::Partial) {
            self.scan = ScanState::START;
        }
        outcome
    }

    fn advance(
        &mut self,
        kind: MessageKind,
        bytes: &[u8],
        max_fields: usize,
    ) -> Result<HeadProgress, HeadError> {
        let is_start = self.scan.seen == 0;
        if is_start {
            self.fields.clear();
            self.name_bits = 0;
            self.unfolded.clear();
        }
        let new = bytes.get(self.scan.seen..).unwrap_or_default();
        let fields = self.scan.past_first_line(kind, new)?;
        // Most heads arrive whole; they are parsed without a search for their end.
        let is_whole = !is_start && self.scan.end.find(fields).is_some();
        self.scan.seen = bytes.len();
        if !is_start && !is_whole && bytes.len() / 2 < self.scan.parsed {
            return Ok(HeadProgress::Partial);
        }
        let max_fields = max_fields.min(MAX_FIELDS);
        let status = match kind {
            MessageKind::Request => self.parse_request(bytes, max_fields)?,
            MessageKind::Response => self.parse_response(bytes, max_fields)?,
        };
        match status {
            Status::Complete(length) => Ok(HeadProgress::Complete(length)),
            // The scanner has found the end of the head, but the parser has not.
            Status::Partial if is_whole => Err(HeadError::Malformed),
            Status::Partial if is_start && self.scan.end.find(fields).is_some() => {
                Err(HeadError::Malformed)
            }
            Status::Partial => {
                self.scan.parsed = bytes.len();
                Ok(HeadProgress::Partial)
            }
        }
    }

    fn parse_request(
        &mut self,
        bytes: &[u8],
        max_fields: usize,
    ) -> Result<Status<usize>, HeadError> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut request = Request::new(&mut []);
        let outcome = request.parse_with_uninit_headers(bytes, &mut headers[..max_fields]);
        self.method = ByteRange::among(bytes, request.method.unwrap_or_default().as_bytes());
        self.target = ByteRange::among(bytes, request.path.unwrap_or_default().as_bytes());
        self.set_version(request.version);
        if let Status::Complete(_) = outcome? {
            self.keep_fields(bytes, request.headers, false)?;
            if memchr(b'#', self.target(bytes)).is_some() {
                return Err(HeadError::FragmentInTarget);
            }
        }
        Ok(outcome?)
    }

    fn parse_response(
        &mut self,
        bytes: &[u8],
        max_fields: usize,
    ) -> Result<Status<usize>, HeadError> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = Response::new(&mut []);
        let mut parser = ParserConfig::default();
        parser.allow_spaces_after_header_name_in_responses(true);
        parser.allow_obsolete_multiline_headers_in_responses(true);
        let headers = &mut headers[..max_fields];
        let outcome = parser.parse_response_with_uninit_headers(&mut response, bytes, headers);
        self.status = response.code.unwrap_or_default();
        self.reason = ByteRange::among(bytes, response.reason.unwrap_or_default().as_bytes());
        self.set_version(response.version);
        if let Status::Complete(length) = outcome? {
            if self.status < 100 {
                return Err(HeadError::Malformed);
            }
            // A head has a line per field, the first line and the empty last one. More lines mean folded values or,
            // rarely, empty lines in front.
            let lines = memchr_iter(b'\n', &bytes[..length]).count();
            let fields = response.headers;
            self.keep_fields(bytes, fields, lines != fields.len() + 2)?;
        }
        Ok(outcome?)
    }

    fn set_version(&mut self, minor: Option<u8>) {
        self.version = match minor {
            Some(0) => HeadVersion::Http10,
            _ => HeadVersion::Http11,
        };
    }

    /// Stores where the fields are. `folded` says whether values may span several lines.
    fn keep_fields(
        &mut self,
        bytes: &[u8],
        fields: &[Header<'_>],
        folded: bool,
    ) -> Result<(), HeadError> {
        self.fields.reserve(fields.len());
        for field in fields {
            let name = ByteRange::among(bytes, field.name.as_bytes());
            let unfolded = folded && memchr(b'\n', field.value).is_some();
            let value = match unfolded {
                true => self.unfold(field.value),
                false => ByteRange::among(bytes, field.value),
            };
            self.name_bits |= name_bit(field.name.as_bytes());
            self.fields.push(FieldRange {
                value,
                name_at: name.at,
                name_length: name.length.try_into().map_err(|_| HeadError::Malformed)?,
                unfolded,
            });
        }
        Ok(())
    }

    /// Joins the lines of a folded value, RFC 9112 5.2.
    fn unfold(&mut self, value: &[u8]) -> ByteRange {
        let begin = self.unfolded.len();
        let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        for line in lines.filter(|line| !line.is_empty()) {
            if self.unfolded.len() > begin {
                self.unfolded.push(b' ');
            }
            self.unfolded.extend_from_slice(line);
        }
        ByteRange::new(begin, self.unfolded.len() - begin)
    }
}

impl ScanState {
    pub(super) const START: ScanState = ScanState {
        line: RequestLineScanner::START,
        begun: false,
        end: HeadEndScanner::START,
        seen: 0,
        parsed: 0,
    };

    /// Consumes the rest of the first line and returns the bytes after it. For a response only leading empty lines are
    /// consumed: its first line is scanned like a field.
    fn past_first_line<'a>(
        &mut self,
        kind: MessageKind,
        new: &'a [u8],
    ) -> Result<&'a [u8], Malformed> {
        let line_length = match kind {
            MessageKind::Request => self.line.take(new)?.0,
            MessageKind::Response if self.begun => 0,
            MessageKind::Response => {
                let mut octets = new.iter();
                let empty = octets.position(|octet| !matches!(octet, b'\r' | b'\n'));
                self.begun = empty.is_some();
                empty.unwrap_or(new.len())
            }
        };
        Ok(&new[line_length..])
    }
}

impl Default for ScanState {
    fn default() -> Self {
        ScanState::START
    }
}

impl From<Malformed> for HeadError {
    fn from(Malformed: Malformed) -> Self {
        HeadError::Malformed
    }
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => HeadError::TooManyFields,
            _ => HeadError::Malformed,
        }
    }
}
