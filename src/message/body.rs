//! Where the body of a message ends.

use super::Malformed;
use super::chunks::{Chunks, Piece};

/// What is still to come of a message whose head has been read.
#[derive(Debug)]
pub(crate) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks up to the last one, and trailer fields.
    Chunked(Chunks),
    /// Whatever the peer sends until it closes: an answer without a length, or a tunnel.
    UntilClose,
}

impl Body {
    pub(crate) fn chunked() -> Self {
        Body::Chunked(Chunks::default())
    }

    /// Takes in what comes next, and tells how much of it is the body's.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Body::Length(left) => {
                let own = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= own as u64;
                Ok(own)
            }
            Body::Chunked(chunks) => chunks.take(bytes),
            Body::UntilClose => Ok(bytes.len()),
        }
    }

    /// Takes in what comes next up to the end of the first piece of data in it, as [`Chunks::next_data`] does.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "only the engine that comes next needs the data")
    )]
    pub(crate) fn next_data(&mut self, bytes: &[u8]) -> Result<Piece, Malformed> {
        if let Body::Chunked(chunks) = self {
            return chunks.next_data(bytes);
        }
        let consumed = self.take(bytes)?;
        Ok(Piece {
            consumed,
            data: 0..consumed,
        })
    }

    /// Whether nothing more is to come.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunks) => chunks.is_over(),
            Body::UntilClose => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is data in the first bytes of a body, how many are its own, and whether it is over.
    fn first(mut body: Body, bytes: &[u8]) -> (&[u8], usize, bool) {
        let Piece { consumed, data } = body.next_data(bytes).expect("a good body");
        (&bytes[data], consumed, body.is_over())
    }

    #[test]
    fn a_body_ends_as_it_was_announced() {
        assert_eq!(first(Body::Length(5), b"hello0"), (&b"hello"[..], 5, true));
        assert_eq!(first(Body::Length(6), b"hello"), (&b"hello"[..], 5, false));
        assert_eq!(first(Body::Length(0), b"x"), (&b""[..], 0, true));
        assert_eq!(first(Body::UntilClose, b"hello"), (&b"hello"[..], 5, false));
        assert_eq!(first(Body::chunked(), b"1\r\nx"), (&b"x"[..], 4, false));
        assert_eq!(first(Body::chunked(), b"0\r\n\r\nx"), (&b""[..], 5, true));
    }
}
