//! Names and passwords in requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header;

use super::RequestView;

/// What the client claims in `Authorization: Basic` (RFC 7617).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BasicCredentials {
    pub(crate) name: Vec<u8>,
    pub(crate) password: Vec<u8>,
}

impl BasicCredentials {
    /// The credentials in the first Authorization field. `None`: the request has no such field, or the field has another
    /// scheme or is malformed.
    pub(crate) fn of(request: RequestView<'_>) -> Option<Self> {
        const SCHEME: &[u8] = b"basic ";
        let value = request.get(&header::AUTHORIZATION)?;
        let (scheme, encoded) = value.split_at_checked(SCHEME.len())?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return None;
        }
        let mut name = STANDARD.decode(encoded.trim_ascii()).ok()?;
        let end = name.iter().position(|byte| *byte == b':')?;
        let password = name.split_off(end + 1);
        name.truncate(end);
        Some(BasicCredentials { name, password })
    }
}
