//! The head of a request, whatever version of HTTP its client speaks.

use http::Method;
use pingora::http::RequestHeader;

use crate::message::head::MessageHead;
use crate::message::{FieldsView, RequestView};
use crate::proxy::ActiveConfig;
use crate::proxy::forwarding::upstream_request::split_absolute_target;
use crate::proxy::http_rules;

/// The head of a request, as the client's version of HTTP carries it.
pub(super) enum RequestHead<'h> {
    Http1(&'h mut MessageHead, &'h [u8]),
    Http2(&'h mut RequestHeader),
}

impl RequestHead<'_> {
    pub(super) fn method(&self) -> Option<Method> {
        match self {
            RequestHead::Http1(head, bytes) => Method::from_bytes(head.method(bytes)).ok(),
            RequestHead::Http2(head) => Some(head.method.clone()),
        }
    }

    /// The head of HTTP/1.1 as received.
    pub(super) fn raw(&self) -> Option<&[u8]> {
        match self {
            RequestHead::Http1(_, bytes) => Some(bytes),
            RequestHead::Http2(_) => None,
        }
    }

    pub(super) fn view<'a>(&'a self, method: &'a Method) -> RequestView<'a> {
        match self {
            RequestHead::Http1(head, bytes) => view(head, bytes, method),
            RequestHead::Http2(head) => (&**head).into(),
        }
    }

    /// Removes the fields that are dropped before routing.
    pub(super) fn drop_fields(&mut self, active: &ActiveConfig, trusted: bool) {
        match self {
            RequestHead::Http1(head, bytes) => {
                head.remove(bytes, |name| http_rules::is_dropped(name, active, trusted));
            }
            RequestHead::Http2(head) => http_rules::drop_fields(head, active, trusted),
        }
    }
}

fn view<'a>(head: &'a MessageHead, bytes: &'a [u8], method: &'a Method) -> RequestView<'a> {
    let request = RequestView {
        method,
        target: head.target(bytes),
        authority: None,
        version: head.version().into(),
        fields: FieldsView::Parsed(head, bytes),
    };
    RequestView {
        authority: split_absolute_target(request).map(|(authority, _)| authority),
        ..request
    }
}
