//! Where the body of a request ends.

use super::Malformed;
use super::chunks::Chunks;

/// What is still to come of a request whose head has been read.
#[derive(Debug)]
pub(in crate::proxy) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks up to the last one, and trailer fields.
    Chunked(Chunks),
    /// Whatever the client sends until it leaves: the connection is a request's no more.
    Tunnel,
}

impl Body {
    pub(in crate::proxy) fn chunked() -> Self {
        Body::Chunked(Chunks::default())
    }

    /// Takes in what comes next, and tells how much of it is the body's.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Body::Length(left) => {
                let own = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= own as u64;
                Ok(own)
            }
            Body::Chunked(chunks) => chunks.take(bytes),
            Body::Tunnel => Ok(bytes.len()),
        }
    }

    /// Whether nothing more is to come.
    pub(super) fn is_over(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunks) => chunks.is_over(),
            Body::Tunnel => false,
        }
    }
}
