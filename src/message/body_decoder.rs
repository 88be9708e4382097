//! Where the body of a message ends.

use super::Malformed;
use super::chunked::{ChunkedDecoder, DecodedPiece};

/// What is still to come of a message whose head has been read.
#[derive(Debug)]
pub(crate) enum BodyDecoder {
    /// So many bytes.
    Length(u64),
    /// Chunks up to the last one, and trailer fields.
    Chunked(ChunkedDecoder),
    /// Whatever the peer sends until it closes: an answer without a length, or a tunnel.
    UntilClose,
}

impl BodyDecoder {
    pub(crate) fn chunked() -> Self {
        BodyDecoder::Chunked(ChunkedDecoder::default())
    }

    /// Takes in what comes next, and tells how much of it is the body's.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            BodyDecoder::Length(left) => {
                let own = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= own as u64;
                Ok(own)
            }
            BodyDecoder::Chunked(chunks) => chunks.take(bytes),
            BodyDecoder::UntilClose => Ok(bytes.len()),
        }
    }

    /// Takes in what comes next up to the end of the first piece of data in it, as [`ChunkedDecoder::next_data`] does.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "only the engine that comes next needs the data")
    )]
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

    /// Whether nothing more is to come.
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

    /// What is data in the first bytes of a body, how many are its own, and whether it is over.
    fn first(mut body: BodyDecoder, bytes: &[u8]) -> (&[u8], usize, bool) {
        let DecodedPiece { consumed, data } = body.next_data(bytes).expect("a good body");
        (&bytes[data], consumed, body.is_finished())
    }

    #[test]
    fn a_body_ends_as_it_was_announced() {
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
