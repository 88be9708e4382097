//! The id of a request, which all of its attempts carry.

use http::HeaderName;

use crate::record::{hexadecimal, random};

/// The field that it stands in.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum RequestId {
    /// The client has brought it.
    Brought(Box<[u8]>),
    /// It was made here: 128 random bits in hexadecimal.
    Made([u8; 32]),
}

impl RequestId {
    pub(crate) fn make() -> Self {
        RequestId::Made(hexadecimal(random()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            RequestId::Brought(id) => id,
            RequestId::Made(id) => id,
        }
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}
