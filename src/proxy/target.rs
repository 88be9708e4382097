//! What a request asks for, as views of the bytes on the wire.

use http::header;
use pingora::http::RequestHeader;
use pingora::http::authority::{RawTargetAuthority, raw_target_authority};

/// The parts of a request's target that routes and keys look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// The authority of an absolute-form target, else the Host field; empty if there is neither.
    pub(super) authority: &'a [u8],
    /// Path and query as sent.
    pub(super) uri: &'a [u8],
    /// Whether the target was in absolute-form, `http://host/path`.
    pub(super) absolute: bool,
}

impl<'a> Target<'a> {
    pub(super) fn of(request: &'a RequestHeader) -> Self {
        let uri = request.raw_path();
        match raw_target_authority(uri) {
            RawTargetAuthority::Absolute {
                authority,
                path_and_query,
                ..
            } => Target {
                authority,
                uri: path_and_query,
                absolute: true,
            },
            // Pingora has refused ambiguous targets before a filter runs.
            RawTargetAuthority::None | RawTargetAuthority::AmbiguousAuthority => Target {
                authority: request
                    .headers
                    .get(header::HOST)
                    .map_or(b"", |host| host.as_bytes()),
                uri,
                absolute: false,
            },
        }
    }

    pub(super) fn path(&self) -> &'a [u8] {
        match self.uri.iter().position(|&byte| byte == b'?') {
            Some(end) => &self.uri[..end],
            None => self.uri,
        }
    }

    pub(super) fn query(&self) -> &'a [u8] {
        match self.uri.iter().position(|&byte| byte == b'?') {
            Some(end) => &self.uri[end + 1..],
            None => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_form_carries_its_own_authority() {
        let mut request = RequestHeader::build("GET", b"http://a.example:1/x/y?q=1", None).unwrap();
        request.insert_header("Host", "b.example").unwrap();
        let target = Target::of(&request);
        assert_eq!(target.authority, b"a.example:1");
        assert_eq!(target.uri, b"/x/y?q=1");
        assert_eq!(target.path(), b"/x/y");
        assert_eq!(target.query(), b"q=1");
        assert!(target.absolute);
    }

    #[test]
    fn origin_form_uses_the_host_field() {
        let mut request = RequestHeader::build("GET", b"/%7Ex", None).unwrap();
        assert_eq!(Target::of(&request).authority, b"");
        request.insert_header("Host", "b.example").unwrap();
        let target = Target::of(&request);
        assert_eq!(
            (target.authority, target.path()),
            (&b"b.example"[..], &b"/%7Ex"[..])
        );
        assert_eq!(target.query(), b"");
    }
}
