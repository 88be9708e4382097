//! Finds the end of a message body.

use super::Malformed;
use super::chunked::{ChunkedDecoder, DecodedPiece};

/// The part of a message body that has not arrived yet.
#[derive(Debug)]
pub(crate) enum BodyDecoder {
    /// This many bytes.
    Length(u64),
    /// Chunks up to the last one, and the trailer fields.
    Chunked(ChunkedDecoder),
    /// All bytes until the peer closes: a response without a length, or a tunnel.
    UntilClose,
}

impl BodyDecoder {
    pub(crate) fn chunked() -> Self {
        BodyDecoder::Chunked(ChunkedDecoder::default())
    }

    /// Consumes the next bytes; returns how many of them belong to the body.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            BodyDecoder::Length(left) => {
                let count =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= count as u64;
                Ok(count)
            }
            BodyDecoder::Chunked(chunks) => chunks.take(bytes),
            BodyDecoder::UntilClose => Ok(bytes.len()),
        }
    }

    /// Consumes the next bytes up to the end of the first piece of data, like [`ChunkedDecoder::next_data`].
    pub(crate) fn next_data(&mut self, bytes: &[u8]) -> Result<DecodedPiece, Malformed> {
        if let BodyDecoder::Chunked(chunks) = self {
            return chunks.next_data(bytes);
        }
        let consumed = self.take(bytes)?;
        Ok(DecodedPiece {
            consumed,
            data: 0..consumed,
        })
    }

    /// Whether the body is complete.
    pub(crate) fn is_finished(&self) -> bool {
        match self {
            BodyDecoder::Length(left) => *left == 0,
            BodyDecoder::Chunked(chunks) => chunks.is_finished(),
            BodyDecoder::UntilClose => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first data of a body, how many bytes were consumed, and whether the body is complete.
    fn first(mut body: BodyDecoder, bytes: &[u8]) -> (&[u8], usize, bool) {
        let DecodedPiece { consumed, data } = body.next_data(bytes).expect("a good body");
        (&bytes[data], consumed, body.is_finished())
    }

    #[test]
    fn a_body_ends_as_announced() {
        assert_eq!(
            first(BodyDecoder::Length(5), b"hello0"),
            (&b"hello"[..], 5, true)
        );
        assert_eq!(
            first(BodyDecoder::Length(6), b"hello"),
            (&b"hello"[..], 5, false)
        );
        assert_eq!(first(BodyDecoder::Length(0), b"x"), (&b""[..], 0, true));
        assert_eq!(
            first(BodyDecoder::UntilClose, b"hello"),
            (&b"hello"[..], 5, false)
        );
        assert_eq!(
            first(BodyDecoder::chunked(), b"1\r\nx"),
            (&b"x"[..], 4, false)
        );
        assert_eq!(
            first(BodyDecoder::chunked(), b"0\r\n\r\nx"),
            (&b""[..], 5, true)
        );
    }
}
