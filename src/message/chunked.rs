//! Incremental, strict decoding of chunked bodies (RFC 9112 7.1), and encoding of chunks.
//!
//! Input that implementations read differently is refused: a size without digits, control characters in an extension,
//! malformed trailer fields. [`ChunkedDecoder`] finds the end of a body and the data in it. Extensions and trailer
//! fields are dropped: a body that is re-encoded with [`write_chunk_start`] and [`LAST_CHUNK`] has none.

use std::ops::Range;

use super::Malformed;
use super::encode;

/// Follows the data of each chunk.
pub(crate) const CHUNK_END: &[u8] = b"\r\n";

/// The last chunk, and the end of a body without trailer fields.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the size line of a chunk. `size` must not be 0, which would end the body. The data and [`CHUNK_END`] follow.
pub(crate) fn write_chunk_start(out: &mut Vec<u8>, size: usize) {
    debug_assert!(size > 0, "a chunk without data ends the body");
    encode::write_hex(out, size);
    out.extend_from_slice(b"\r\n");
}

/// The maximum number of hexadecimal digits in a size, enough for 60 bits. More digits are an attack, even if they are
/// zeros.
const MAX_SIZE_DIGITS: u8 = 15;

/// The maximum length of chunk extensions, which no common client sends.
const MAX_EXTENSION: u32 = 4 << 10;

/// The maximum total length of the trailer fields, which are discarded.
const MAX_TRAILER: u32 = 16 << 10;

/// The state of a partly received body.
#[derive(Debug)]
pub(crate) struct ChunkedDecoder {
    state: ChunkState,
    /// The size of the current chunk.
    size: u64,
    /// The length of the current extension, or of the trailer so far.
    length: u32,
}

/// One decoding step of a chunked body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedPiece {
    /// How many bytes were consumed.
    pub(crate) consumed: usize,
    /// Which of them are data; may be empty.
    pub(crate) data: Range<usize>,
}

/// What the decoder expects next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    /// The size; this many digits have arrived.
    Size(u8),
    /// White space between the size and an extension.
    Space,
    Extension,
    SizeLf,
    /// This many bytes of data.
    Data(u64),
    DataCr,
    DataLf,
    /// A trailer field, or the end of the body.
    Field,
    Name,
    Value,
    FieldLf,
    LastLf,
    Done,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        ChunkedDecoder {
            state: ChunkState::Size(0),
            size: 0,
            length: 0,
        }
    }
}

impl ChunkedDecoder {
    pub(crate) fn is_finished(&self) -> bool {
        self.state == ChunkState::Done
    }

    /// Consumes the next bytes; returns how many of them belong to the body.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut consumed = 0;
        while consumed < bytes.len() && !self.is_finished() {
            consumed += self.next_data(&bytes[consumed..])?.consumed;
        }
        Ok(consumed)
    }

    /// Consumes the next bytes up to the end of the first piece of data. The caller repeats this with the remaining
    /// bytes until all are consumed or the body [is complete](Self::is_finished).
    pub(crate) fn next_data(&mut self, bytes: &[u8]) -> Result<DecodedPiece, Malformed> {
        let mut position = 0;
        while let Some(octet) = bytes.get(position) {
            match self.state {
                ChunkState::Done => break,
                ChunkState::Data(left) => {
                    let rest = bytes.len() - position;
                    let count = usize::try_from(left).map_or(rest, |left| left.min(rest));
                    self.state = match left - count as u64 {
                        0 => ChunkState::DataCr,
                        left => ChunkState::Data(left),
                    };
                    let end = position + count;
                    return Ok(DecodedPiece {
                        consumed: end + self.end_data(&bytes[end..]),
                        data: position..end,
                    });
                }
                _ => {
                    self.state = self.next_state(*octet)?;
                    position += 1;
                }
            }
        }
        Ok(DecodedPiece {
            consumed: position,
            data: position..position,
        })
    }

    /// Consumes the line end after a chunk's data if it has arrived in full, so that a whole chunk is one step.
    fn end_data(&mut self, following: &[u8]) -> usize {
        match (self.state, following) {
            (ChunkState::DataCr, [b'\r', b'\n', ..]) => {
                self.state = ChunkState::Size(0);
                2
            }
            _ => 0,
        }
    }

    /// The state after an octet that is not data.
    fn next_state(&mut self, octet: u8) -> Result<ChunkState, Malformed> {
        Ok(match (self.state, octet) {
            (ChunkState::Size(digits), _) if octet.is_ascii_hexdigit() => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(Malformed);
                }
                let digit = char::from(octet).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                ChunkState::Size(digits + 1)
            }
            (ChunkState::Size(1..) | ChunkState::Space, b' ' | b'\t') => {
                self.count_length(MAX_EXTENSION, ChunkState::Space)?
            }
            (ChunkState::Size(1..) | ChunkState::Space, b';') => ChunkState::Extension,
            (ChunkState::Size(1..) | ChunkState::Space | ChunkState::Extension, b'\r') => {
                ChunkState::SizeLf
            }
            (ChunkState::Extension, _) if is_text(octet) => {
                self.count_length(MAX_EXTENSION, ChunkState::Extension)?
            }
            (ChunkState::SizeLf, b'\n') => {
                self.length = 0;
                match std::mem::take(&mut self.size) {
                    0 => ChunkState::Field,
                    size => ChunkState::Data(size),
                }
            }
            (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
            (ChunkState::DataLf, b'\n') => ChunkState::Size(0),
            (ChunkState::Field, b'\r') => ChunkState::LastLf,
            (ChunkState::Field | ChunkState::Name, _) if is_token(octet) => {
                self.count_length(MAX_TRAILER, ChunkState::Name)?
            }
            (ChunkState::Name, b':') => ChunkState::Value,
            (ChunkState::Value, b'\r') => ChunkState::FieldLf,
            (ChunkState::Value, _) if is_text(octet) => {
                self.count_length(MAX_TRAILER, ChunkState::Value)?
            }
            (ChunkState::FieldLf, b'\n') => ChunkState::Field,
            (ChunkState::LastLf, b'\n') => ChunkState::Done,
            _ => return Err(Malformed),
        })
    }

    /// Returns `next`, unless the length exceeds `max`.
    fn count_length(&mut self, max: u32, next: ChunkState) -> Result<ChunkState, Malformed> {
        self.length += 1;
        match self.length > max {
            true => Err(Malformed),
            false => Ok(next),
        }
    }
}

/// Whether an octet may stand in an extension or in a field value: no control character except HTAB.
fn is_text(octet: u8) -> bool {
    octet == b'\t' || !octet.is_ascii_control()
}

/// `tchar` of RFC 9110 5.6.2.
pub(crate) fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of `bytes` belongs to the body, and whether it is complete. Checks that every split gives the same
    /// result.
    fn check(bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let in_pieces = |pieces: &[&[u8]]| {
            let (mut chunks, mut length) = (ChunkedDecoder::default(), 0);
            for piece in pieces {
                length += chunks.take(piece)?;
            }
            Ok((length, chunks.is_finished()))
        };
        let whole = in_pieces(&[bytes]);
        assert_eq!(in_pieces(&Vec::from_iter(bytes.chunks(1))), whole);
        for position in 0..bytes.len().min(100) {
            let (first, second) = bytes.split_at(position);
            assert_eq!(in_pieces(&[first, second]), whole, "{position}");
        }
        whole
    }

    #[test]
    fn a_body_ends_after_its_trailer() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5;a=\"b\"\r\nhello\r\n00;x\r\n\r\n",
            "5 \t;a\r\nhello\r\n0 \r\n\r\n",
            "a\r\n\r\n0\r\n\r\n0\r\n\r\n0\r\nX-T: a\tb\r\nY:\r\n\r\n",
            "00000000000000F\r\n0123456789abcde\r\n0\r\n\r\n",
        ] {
            assert_eq!(check(body.as_bytes()), Ok((body.len(), true)), "{body:?}");
            let more = [body, "GET / HTTP/1.1\r\n"].concat();
            assert_eq!(check(more.as_bytes()), Ok((body.len(), true)), "{more:?}");
            let less = &body[..body.len() - 1];
            assert_eq!(check(less.as_bytes()), Ok((less.len(), false)), "{less:?}");
        }
    }

    /// The data of a body that arrives in pieces of `size` bytes.
    fn data(body: &[u8], size: usize) -> Vec<u8> {
        let (mut chunks, mut data) = (ChunkedDecoder::default(), Vec::new());
        for mut piece in body.chunks(size) {
            while !piece.is_empty() {
                let DecodedPiece {
                    consumed,
                    data: range,
                } = chunks.next_data(piece).expect("a good body");
                assert!(consumed > 0 && range.end <= consumed);
                data.extend_from_slice(&piece[range]);
                piece = &piece[consumed..];
            }
        }
        assert!(chunks.is_finished());
        data
    }

    #[test]
    fn data_excludes_sizes_extensions_and_trailers() {
        let body = b"5;a=b\r\nhello\r\n1\r\n \r\n00A \t;x\r\n0\r\n\r\nworld\r\n0\r\nX: y\r\n\r\n";
        for size in 1..=body.len() {
            assert_eq!(data(body, size), b"hello 0\r\n\r\nworld", "{size}");
        }
        let mut chunks = ChunkedDecoder::default();
        let piece = chunks.next_data(body);
        let (consumed, data) = (14, 7..12);
        assert_eq!(
            piece,
            Ok(DecodedPiece { consumed, data }),
            "a whole chunk position once"
        );
    }

    #[test]
    fn encoded_chunks_are_decoded() {
        let mut body = Vec::new();
        for data in [&b"hello"[..], &[b'x'; 300], b"\r\n"] {
            write_chunk_start(&mut body, data.len());
            body.extend_from_slice(data);
            body.extend_from_slice(CHUNK_END);
        }
        body.extend_from_slice(LAST_CHUNK);
        assert!(body.starts_with(b"5\r\nhello\r\n12c\r\nxx"));
        assert_eq!(check(&body), Ok((body.len(), true)));
        assert_eq!(
            data(&body, 7),
            [&b"hello"[..], &[b'x'; 300], b"\r\n"].concat()
        );
    }

    #[test]
    fn ambiguous_chunks_are_refused() {
        let long = |part: &str, count| part.repeat(count);
        for body in [
            "\r\n".to_owned(),
            ";a\r\n".to_owned(),
            " 5\r\n".to_owned(),
            "0x5\r\n".to_owned(),
            "5 5\r\n".to_owned(),
            "5\n".to_owned(),
            "5\r\r\n".to_owned(),
            "5;\0\r\n".to_owned(),
            "5;a\n".to_owned(),
            "5\r\nhello0".to_owned(),
            "5\r\nhello\n".to_owned(),
            "0\r\n\n".to_owned(),
            "0\r\n: a\r\n".to_owned(),
            "0\r\nX : a\r\n".to_owned(),
            "0\r\nX\r\n".to_owned(),
            "0\r\nX: a\r\n b\r\n".to_owned(),
            "0\r\nX: \0\r\n".to_owned(),
            "0\r\nX: a\n".to_owned(),
            "0000000000000005\r\n".to_owned(),
            long("0", 5_000),
            format!("5;{}", long("a", 5_000)),
            format!("5{}", long(" ", 5_000)),
            format!("0\r\nX:{}", long("a", 20_000)),
            format!("0\r\n{}", long("X:\r\n", 20_000)),
        ] {
            assert_eq!(check(body.as_bytes()), Err(Malformed), "{body:?}");
        }
    }
}
