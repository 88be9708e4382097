//! How a head is parsed as it comes.
//!
//! A head that comes in many pieces is not parsed for each of them, but when its end has come, and before that each time
//! that its length has doubled: so one that can be none is refused before it is whole.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Request, Response, Status};
use memchr::{memchr, memchr_iter};

use super::{
    ByteRange, FieldRange, HeadError, HeadProgress, HeadVersion, MessageHead, MessageKind, name_bit,
};
use crate::message::Malformed;
use crate::message::head_end_scanner::HeadEndScanner;
use crate::message::request_line_scanner::RequestLineScanner;

/// As many fields as Pingora's sessions take.
pub(crate) const MAX_FIELDS: usize = 256;

/// What is known of a head that is not whole.
#[derive(Debug)]
pub(super) struct ScanState {
    line: RequestLineScanner,
    /// Whether anything but empty lines has come of a response.
    begun: bool,
    end: HeadEndScanner,
    /// How many bytes have been looked at.
    seen: usize,
    /// How many there were when they were parsed.
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
        let begins = self.scan.seen == 0;
        if begins {
            self.fields.clear();
            self.name_bits = 0;
            self.unfolded.clear();
        }
        let new = bytes.get(self.scan.seen..).unwrap_or_default();
        let fields = self.scan.past_first_line(kind, new)?;
        // A head that is whole at once, as most are, is not searched for its end.
        let is_whole = !begins && self.scan.end.find(fields).is_some();
        self.scan.seen = bytes.len();
        if !begins && !is_whole && bytes.len() / 2 < self.scan.parsed {
            return Ok(HeadProgress::Partial);
        }
        let max_fields = max_fields.min(MAX_FIELDS);
        let status = match kind {
            MessageKind::Request => self.parse_request(bytes, max_fields)?,
            MessageKind::Response => self.parse_response(bytes, max_fields)?,
        };
        match status {
            Status::Complete(length) => Ok(HeadProgress::Complete(length)),
            // The parser does not see the end that is there.
            Status::Partial if is_whole => Err(HeadError::Malformed),
            Status::Partial if begins && self.scan.end.find(fields).is_some() => {
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
        let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut request = Request::new(&mut []);
        let outcome = request.parse_with_uninit_headers(bytes, &mut room[..max_fields]);
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
        let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = Response::new(&mut []);
        let mut parser = ParserConfig::default();
        parser.allow_spaces_after_header_name_in_responses(true);
        parser.allow_obsolete_multiline_headers_in_responses(true);
        let room = &mut room[..max_fields];
        let outcome = parser.parse_response_with_uninit_headers(&mut response, bytes, room);
        self.status = response.code.unwrap_or_default();
        self.reason = ByteRange::among(bytes, response.reason.unwrap_or_default().as_bytes());
        self.set_version(response.version);
        if let Status::Complete(length) = outcome? {
            if self.status < 100 {
                return Err(HeadError::Malformed);
            }
            // Beside the fields there are the first line and the last, and seldom empty ones in front.
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

    /// `folded`: whether values may be on several lines.
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

    /// Makes one line of a value on several, RFC 9112 5.2.
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

    /// Takes in what comes next up to the end of the first line, and hands out what is behind. The first line of a
    /// response is not looked at: it counts as a field.
    fn past_first_line<'a>(
        &mut self,
        kind: MessageKind,
        new: &'a [u8],
    ) -> Result<&'a [u8], Malformed> {
        let own = match kind {
            MessageKind::Request => self.line.take(new)?.0,
            MessageKind::Response if self.begun => 0,
            MessageKind::Response => {
                let mut octets = new.iter();
                let empty = octets.position(|octet| !matches!(octet, b'\r' | b'\n'));
                self.begun = empty.is_some();
                empty.unwrap_or(new.len())
            }
        };
        Ok(&new[own..])
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
