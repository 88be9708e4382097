//! The id of a request, which all of its attempts carry.

use http::HeaderName;

use crate::record::{hex_u128, random_u128};

/// The field that it stands in.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum RequestId {
    /// The client has brought it.
    FromClient(Box<[u8]>),
    /// It was made here: 128 random bits in hexadecimal.
    Generated([u8; 32]),
}

impl RequestId {
    pub(crate) fn generate() -> Self {
        RequestId::Generated(hex_u128(random_u128()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            RequestId::FromClient(id) => id,
            RequestId::Generated(id) => id,
        }
    }
}

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}
