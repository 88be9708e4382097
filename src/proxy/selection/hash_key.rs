//! The key that a hashing algorithm hashes, taken from the request without copying it.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header;

use crate::address_text::AddressText;
use crate::config::KeySource;
use crate::message::RequestView;
use crate::normalize;
use crate::proxy::request_target::RequestTarget;

/// A key that is computed, and so is not a slice of the request.
#[derive(Debug)]
pub(crate) enum DerivedKey<'a> {
    /// The text of the client's address.
    Address(AddressText),
    /// The normalized path.
    Path(Cow<'a, [u8]>),
}

impl<'a> DerivedKey<'a> {
    /// Computes the key for `source`. `None`: the key is a slice of the request, or the client has no address.
    pub(crate) fn of(
        source: &KeySource,
        request: RequestView<'a>,
        client: Option<IpAddr>,
    ) -> Option<Self> {
        match source {
            KeySource::ClientIp => Some(DerivedKey::Address(AddressText::new(client?))),
            KeySource::Path => {
                let path = normalize::path(RequestTarget::of(request).path());
                Some(DerivedKey::Path(path.path))
            }
            _ => None,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            DerivedKey::Address(address) => address.as_bytes(),
            DerivedKey::Path(path) => path,
        }
    }
}

/// The key of a request. `None`: the request has none, or it is empty. `derived` is the [`DerivedKey`] for the same
/// source.
pub(crate) fn extract<'a>(
    source: &KeySource,
    request: RequestView<'a>,
    derived: Option<&'a DerivedKey<'_>>,
) -> Option<&'a [u8]> {
    let key = match source {
        KeySource::ClientIp | KeySource::Path => derived?.as_bytes(),
        KeySource::Header(name) => request.get(name)?,
        KeySource::Cookie(name) => cookie(request, name)?,
        KeySource::Query(name) => parameter(RequestTarget::of(request).query(), name.as_bytes())?,
        KeySource::Uri => RequestTarget::of(request).uri,
    };
    (!key.is_empty()).then_some(key)
}

/// The value of the first cookie with exactly this name, without the optional quotes around it.
pub(crate) fn cookie<'a>(request: RequestView<'a>, name: &str) -> Option<&'a [u8]> {
    let mut fields = request.get_all(&header::COOKIE);
    let value = fields.find_map(|field| named(field, b';', name.as_bytes()))?;
    Some(match value {
        [b'"', inner @ .., b'"'] => inner,
        bare => bare,
    })
}

/// The value of the first query parameter with this name, not decoded.
fn parameter<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    named(query, b'&', name)
}

fn named<'a>(list: &'a [u8], separator: u8, name: &[u8]) -> Option<&'a [u8]> {
    list.split(|&byte| byte == separator).find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")?;
        Some(value)
    })
}

#[cfg(test)]
mod tests {
    use pingora::http::RequestHeader;

    use super::*;

    fn key(source: &KeySource, target: &str, fields: &[(&'static str, &str)]) -> Option<String> {
        let mut request = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        for (name, value) in fields {
            request.append_header(*name, *value).unwrap();
        }
        let derived = DerivedKey::of(source, (&request).into(), None);
        extract(source, (&request).into(), derived.as_ref())
            .map(|key| String::from_utf8(key.to_vec()).unwrap())
    }

    #[test]
    fn cookies_are_found_by_their_exact_name_in_any_field() {
        let session = KeySource::Cookie("session".to_owned());
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["session=abc"], Some("abc")),
            (&["a=1; session=abc; b=2"], Some("abc")),
            (&["a=1;session=abc"], Some("abc")),
            (&["xsession=no; session=abc"], Some("abc")),
            (&["sessionx=no"], None),
            (&["Session=no"], None),
            (&["a=session=no"], None),
            (&["session=\"a b\""], Some("a b")),
            (&["session=\""], Some("\"")),
            (&["session=a=b"], Some("a=b")),
            (&["session="], None),
            (&["session"], None),
            (&[], None),
            (&["a=1", "b=2; session=late"], Some("late")),
        ];
        for (fields, expected) in cases {
            let fields: Vec<_> = fields.iter().map(|field| ("Cookie", *field)).collect();
            assert_eq!(
                key(&session, "/", &fields).as_deref(),
                *expected,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn query_and_uri_are_used_as_sent_and_the_path_normalized() {
        let user = KeySource::Query("user".to_owned());
        assert_eq!(
            key(&user, "/p?a=1&user=%41b&user=c", &[]).as_deref(),
            Some("%41b")
        );
        assert_eq!(key(&user, "/p?superuser=1", &[]), None);
        assert_eq!(key(&user, "/p?user=", &[]), None);
        assert_eq!(key(&user, "/user=1", &[]), None);
        assert_eq!(
            key(&KeySource::Path, "/p%20q?a=1", &[]).as_deref(),
            Some("/p%20q")
        );
        assert_eq!(
            key(&KeySource::Path, "/x/..//%70;a=1?a=1", &[]).as_deref(),
            Some("/p")
        );
        assert_eq!(
            key(&KeySource::Uri, "/%70%20q?a=1", &[]).as_deref(),
            Some("/%70%20q?a=1")
        );
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let user = KeySource::Header("x-user".parse().unwrap());
        assert_eq!(key(&user, "/", &[("X-USER", "u1")]).as_deref(), Some("u1"));
        assert_eq!(key(&user, "/", &[("X-User", "")]), None);
        assert_eq!(key(&user, "/", &[]), None);
    }

    #[test]
    fn addresses_are_written_in_full() {
        for text in ["1.2.3.4", "::1", "1111:2222:3333:4444:5555:6666:7777:8888"] {
            assert_eq!(
                AddressText::new(text.parse().unwrap()).as_bytes(),
                text.as_bytes()
            );
        }
    }
}
