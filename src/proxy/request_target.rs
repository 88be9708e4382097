//! The target of a request, as slices of the bytes on the wire.

use std::borrow::Cow;

use http::{Method, header};
use pingora::http::authority::{RawTargetAuthority, raw_target_authority};

use crate::message::RequestView;

/// The parts of a request target that routes and hash keys use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestTarget<'a> {
    /// The authority of an absolute target, otherwise the Host field; empty if there is neither.
    pub(crate) authority: &'a [u8],
    /// Path and query as sent.
    pub(crate) uri: &'a [u8],
    /// Whether the target is in absolute-form, `http://host/path`.
    pub(crate) absolute: bool,
}

/// The forms of a request target, RFC 9112 3.2. The authority-form of CONNECT is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetForm {
    /// A path with an optional query.
    Origin,
    /// A complete `http` or `https` URI.
    Absolute,
    /// `*`, the server as a whole; only for OPTIONS.
    Asterisk,
}

impl TargetForm {
    /// The form of a request's target. `None`: an invalid target.
    pub(crate) fn of(request: RequestView<'_>) -> Option<Self> {
        match request.target {
            [b'/', ..] => Some(TargetForm::Origin),
            b"*" => (*request.method == Method::OPTIONS).then_some(TargetForm::Asterisk),
            target => match raw_target_authority(target) {
                RawTargetAuthority::Absolute { scheme, .. }
                    if scheme.eq_ignore_ascii_case(b"http")
                        || scheme.eq_ignore_ascii_case(b"https") =>
                {
                    Some(TargetForm::Absolute)
                }
                _ => None,
            },
        }
    }
}

impl<'a> RequestTarget<'a> {
    pub(crate) fn of(request: RequestView<'a>) -> Self {
        let uri = request.target;
        match raw_target_authority(uri) {
            RawTargetAuthority::Absolute {
                authority,
                path_and_query,
                ..
            } => RequestTarget {
                authority,
                uri: path_and_query,
                absolute: true,
            },
            // Pingora and the engine have rejected ambiguous targets before this is called.
            RawTargetAuthority::None | RawTargetAuthority::AmbiguousAuthority => RequestTarget {
                // HTTP/2 sends the authority in a pseudo-header field of its own.
                authority: match request.authority {
                    Some(authority) => authority,
                    None => request.get(&header::HOST).unwrap_or_default(),
                },
                uri,
                absolute: false,
            },
        }
    }

    /// The target in origin-form, or `*` for OPTIONS of the whole server, RFC 9112 3.2.4.
    pub(crate) fn without_authority(&self, method: &Method) -> Cow<'a, [u8]> {
        match self.uri {
            [] if method == Method::OPTIONS => b"*".into(),
            bare @ ([] | [b'?', ..]) => [b"/", bare].concat().into(),
            path => path.into(),
        }
    }

    pub(crate) fn path(&self) -> &'a [u8] {
        match self.uri.iter().position(|&byte| byte == b'?') {
            Some(end) => &self.uri[..end],
            None => self.uri,
        }
    }

    pub(crate) fn query(&self) -> &'a [u8] {
        match self.uri.iter().position(|&byte| byte == b'?') {
            Some(end) => &self.uri[end + 1..],
            None => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use pingora::http::RequestHeader;

    use super::*;

    #[test]
    fn absolute_form_carries_its_own_authority() {
        let mut request = RequestHeader::build("GET", b"http://a.example:1/x/y?q=1", None).unwrap();
        request.insert_header("Host", "b.example").unwrap();
        let target = RequestTarget::of((&request).into());
        assert_eq!(target.authority, b"a.example:1");
        assert_eq!(target.uri, b"/x/y?q=1");
        assert_eq!(target.path(), b"/x/y");
        assert_eq!(target.query(), b"q=1");
        assert!(target.absolute);
    }

    #[test]
    fn origin_servers_get_the_target_without_authority() {
        for (method, target, expected) in [
            ("GET", "http://a/x?q", "/x?q"),
            ("GET", "http://a", "/"),
            ("GET", "http://a?q", "/?q"),
            ("OPTIONS", "http://a", "*"),
            ("OPTIONS", "http://a/", "/"),
        ] {
            let request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
            let bare = RequestTarget::of((&request).into()).without_authority(&request.method);
            assert_eq!(bare, expected.as_bytes(), "{method} {target}");
        }
    }

    #[test]
    fn origin_form_uses_the_host_field() {
        let mut request = RequestHeader::build("GET", b"/%7Ex", None).unwrap();
        assert_eq!(RequestTarget::of((&request).into()).authority, b"");
        request.insert_header("Host", "b.example").unwrap();
        let target = RequestTarget::of((&request).into());
        assert_eq!(
            (target.authority, target.path()),
            (&b"b.example"[..], &b"/%7Ex"[..])
        );
        assert_eq!(target.query(), b"");
    }
}
