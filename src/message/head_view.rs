//! Read-only views of heads, independent of how the transport stores them.

use super::head::{FieldLine, HeaderFields, MessageHead};
use http::header::{HeaderName, HeaderValue, ValueIter};
use http::{HeaderMap, Method, StatusCode, Version};
use pingora::http::authority::{RawTargetAuthority, raw_target_authority};
use pingora::http::{RequestHeader, ResponseHeader};

/// The head of a request. It only borrows, so it is `Copy` and passed by value.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The target as sent; for HTTP/2, path and query.
    pub target: &'a [u8],
    /// The authority of an absolute-form target, or the `:authority` of HTTP/2.
    pub authority: Option<&'a [u8]>,
    /// The HTTP version of the message.
    pub version: Version,
    /// Its header fields.
    pub fields: FieldsView<'a>,
}

impl<'a> RequestView<'a> {
    /// The target without its authority: path and query, or `*`.
    pub fn uri(self) -> &'a [u8] {
        match raw_target_authority(self.target) {
            RawTargetAuthority::Absolute { path_and_query, .. } => path_and_query,
            RawTargetAuthority::None | RawTargetAuthority::AmbiguousAuthority => self.target,
        }
    }

    /// The value of the first field with this name.
    pub fn get(self, name: &HeaderName) -> Option<&'a [u8]> {
        self.fields.get(name)
    }

    /// The values of all fields with this name, in order.
    pub fn get_all(self, name: &HeaderName) -> FieldValues<'a> {
        self.fields.get_all(name)
    }
}

impl<'a> From<&'a RequestHeader> for RequestView<'a> {
    fn from(request: &'a RequestHeader) -> Self {
        let authority = request.uri.authority();
        RequestView {
            method: &request.method,
            target: request.raw_path(),
            authority: authority.map(|authority| authority.as_str().as_bytes()),
            version: request.version,
            fields: FieldsView::Map(&request.headers),
        }
    }
}

/// The head of a response.
#[derive(Debug, Clone, Copy)]
pub struct ResponseView<'a> {
    /// The status.
    pub status: StatusCode,
    /// The HTTP version of the message.
    pub version: Version,
    /// Its header fields.
    pub fields: FieldsView<'a>,
}

impl<'a> From<&'a ResponseHeader> for ResponseView<'a> {
    fn from(response: &'a ResponseHeader) -> Self {
        ResponseView {
            status: response.status,
            version: response.version,
            fields: FieldsView::Map(&response.headers),
        }
    }
}

/// The header fields of a message.
#[derive(Debug, Clone, Copy)]
pub enum FieldsView<'a> {
    /// A map by name.
    Map(&'a HeaderMap),
    /// A parsed head, and the bytes that it was parsed from.
    Parsed(&'a MessageHead, &'a [u8]),
}

impl<'a> FieldsView<'a> {
    /// The value of the first field with this name.
    pub fn get(self, name: &HeaderName) -> Option<&'a [u8]> {
        match self {
            FieldsView::Map(map) => map.get(name).map(HeaderValue::as_bytes),
            FieldsView::Parsed(head, bytes) => head.get(bytes, name.as_str()),
        }
    }

    /// Whether a field with this name exists.
    pub fn contains(self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// The values of all fields with this name, in order.
    pub fn get_all(self, name: &HeaderName) -> FieldValues<'a> {
        match self {
            FieldsView::Map(map) => FieldValues::Map(map.get_all(name).iter()),
            FieldsView::Parsed(head, bytes) => {
                FieldValues::Parsed(head.candidates(bytes, name.as_str()), name.clone())
            }
        }
    }

    /// Names and values of all fields. Names keep their case.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        FieldIter::new(self)
    }

    /// All fields, to be written again.
    pub(crate) fn lines(self) -> impl Iterator<Item = FieldLine<'a>> {
        FieldLines(FieldIter::new(self))
    }

    /// The number of fields.
    pub fn len(self) -> usize {
        match self {
            FieldsView::Map(map) => map.len(),
            FieldsView::Parsed(head, _) => head.len(),
        }
    }

    /// Whether the message has no fields.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl<'a> From<&'a HeaderMap> for FieldsView<'a> {
    fn from(map: &'a HeaderMap) -> Self {
        FieldsView::Map(map)
    }
}

/// Iterates over names and values.
enum FieldIter<'a> {
    Map(http::header::Iter<'a, HeaderValue>),
    Parsed(HeaderFields<'a>),
}

impl<'a> FieldIter<'a> {
    fn new(fields: FieldsView<'a>) -> Self {
        match fields {
            FieldsView::Map(map) => FieldIter::Map(map.iter()),
            FieldsView::Parsed(head, bytes) => FieldIter::Parsed(head.fields(bytes)),
        }
    }
}

impl<'a> Iterator for FieldIter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            FieldIter::Map(fields) => {
                let (name, value) = fields.next()?;
                Some((name.as_str().as_bytes(), value.as_bytes()))
            }
            FieldIter::Parsed(fields) => {
                let field = fields.next()?;
                Some((field.name, field.value))
            }
        }
    }
}

/// Iterates over fields with their lines.
struct FieldLines<'a>(FieldIter<'a>);

impl<'a> Iterator for FieldLines<'a> {
    type Item = FieldLine<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            FieldIter::Parsed(fields) => fields.next_line(),
            fields => {
                let (name, value) = fields.next()?;
                Some(FieldLine {
                    name,
                    value,
                    received: None,
                })
            }
        }
    }
}

/// Iterates over the values of the fields with one name.
#[derive(Debug)]
pub enum FieldValues<'a> {
    /// From a map.
    Map(ValueIter<'a, HeaderValue>),
    /// From a parsed head, filtered by this name.
    Parsed(HeaderFields<'a>, HeaderName),
}

impl<'a> Iterator for FieldValues<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            FieldValues::Map(values) => values.next().map(HeaderValue::as_bytes),
            FieldValues::Parsed(fields, name) => fields.next_named(name.as_str()),
        }
    }
}

impl DoubleEndedIterator for FieldValues<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            FieldValues::Map(values) => values.next_back().map(HeaderValue::as_bytes),
            FieldValues::Parsed(fields, name) => fields.next_back_named(name.as_str()),
        }
    }
}
