//! The request id, which all attempts of a request share.

use http::HeaderName;

use crate::record::{hex_u128, random_u128};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum RequestId {
    /// Taken from the client's X-Request-Id.
    FromClient(Box<[u8]>),
    /// Generated here: 128 random bits in hexadecimal.
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
