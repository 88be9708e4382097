//! The handshake of WebSockets, RFC 6455, where this proxy makes it for a client of HTTP/2.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::message::FieldsView;

/// What a host appends to the key, RFC 6455 1.3.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a host has proven by its 101 that it understood the request for a WebSocket. A client of HTTP/2 gets nothing
/// that it could check.
pub(crate) fn is_websocket_accepted(request: FieldsView<'_>, response: FieldsView<'_>) -> bool {
    let key = request.get(&SEC_WEBSOCKET_KEY);
    let accept = response.get(&SEC_WEBSOCKET_ACCEPT);
    key.zip(accept)
        .is_some_and(|(key, accept)| accept == accept_for(key).as_bytes())
}

/// The value of Sec-WebSocket-Accept for a key, RFC 6455 4.2.2.
fn accept_for(key: &[u8]) -> String {
    let text = [key, KEY_SUFFIX.as_bytes()].concat();
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn is_accepted(request: &HeaderMap, response: &HeaderMap) -> bool {
        is_websocket_accepted(request.into(), response.into())
    }

    #[test]
    fn the_key_of_the_rfc_is_accepted() {
        // RFC 6455 1.3.
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let accept = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let with = |name, value| HeaderMap::from_iter([(name, value)]);
        let request = with(SEC_WEBSOCKET_KEY, key.clone());
        assert!(is_accepted(&request, &with(SEC_WEBSOCKET_ACCEPT, accept)));
        assert!(!is_accepted(&request, &with(SEC_WEBSOCKET_ACCEPT, key)));
        assert!(!is_accepted(&request, &HeaderMap::new()));
        assert!(!is_accepted(&HeaderMap::new(), &HeaderMap::new()));
    }
}
