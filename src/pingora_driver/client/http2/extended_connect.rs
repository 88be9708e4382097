//! WebSockets over HTTP/2 by extended CONNECT, RFC 8441.
//!
//! A request for a tunnel becomes the upgrade that it is in HTTP/1.1, which routes, limits, logs and hosts treat as any
//! other; its 101 becomes the 200 that begins the tunnel on the stream.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, Method, StatusCode};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::message::Malformed;

/// The only protocol that extended CONNECT is served for. Others do not have a handshake in HTTP/1.1.
const WEBSOCKET: &str = "websocket";

/// What a host appends to the key, RFC 6455 1.3.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The tunnel that a stream asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tunnel {
    /// None: an ordinary request.
    None,
    /// One of another protocol.
    Unknown,
    /// A WebSocket, which the host has not accepted.
    Requested,
    /// Both sides send bytes.
    Open,
}

/// Whether tunnels of WebSocket are offered to clients.
pub(super) fn is_offered(upgrades: &[Arc<str>]) -> bool {
    let mut upgrades = upgrades.iter();
    upgrades.any(|protocol| protocol.eq_ignore_ascii_case(WEBSOCKET))
}

/// Turns a request for a WebSocket into the upgrade of HTTP/1.1.
///
/// # Errors
/// If the request announces a body.
pub(super) fn tunnel_of(request: &mut RequestHeader) -> Result<Tunnel, Malformed> {
    let Some(protocol) = request.extensions_mut().remove::<Protocol>() else {
        return Ok(Tunnel::None);
    };
    if !protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) {
        return Ok(Tunnel::Unknown);
    }
    if request.headers.contains_key(CONTENT_LENGTH) {
        return Err(Malformed);
    }
    request.set_method(Method::GET);
    let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
    for (name, value) in [
        (CONNECTION, "Upgrade"),
        (UPGRADE, WEBSOCKET),
        (SEC_WEBSOCKET_KEY, &key),
    ] {
        request.insert_header(name, value).map_err(|_| Malformed)?;
    }
    Ok(Tunnel::Requested)
}

/// Turns the host's 101 into the response that begins a tunnel.
pub(super) fn accept(head: &mut ResponseHeader) -> Result<()> {
    head.remove_header(&SEC_WEBSOCKET_ACCEPT);
    head.remove_header(&CONTENT_LENGTH);
    head.set_status(StatusCode::OK)
}

/// Whether a host has proven by its 101 that it understood the request for a WebSocket.
pub(crate) fn is_accepted(request: &HeaderMap, response: &HeaderMap) -> bool {
    let key = request.get(SEC_WEBSOCKET_KEY);
    let accept = response.get(SEC_WEBSOCKET_ACCEPT);
    key.zip(accept)
        .is_some_and(|(key, accept)| accept.as_bytes() == accept_for(key.as_bytes()).as_bytes())
}

/// The value of Sec-WebSocket-Accept for a key, RFC 6455 4.2.2.
fn accept_for(key: &[u8]) -> String {
    let text = [key, KEY_SUFFIX.as_bytes()].concat();
    BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn connect(protocol: &'static str, fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = RequestHeader::build("CONNECT", b"/chat", None).expect("a request");
        request
            .extensions_mut()
            .insert(Protocol::from_static(protocol));
        for (name, value) in fields {
            request.append_header(*name, *value).expect("a field");
        }
        request
    }

    #[test]
    fn a_websocket_becomes_an_upgrade() {
        let mut request = connect("WebSocket", &[("sec-websocket-key", "forged")]);
        assert_eq!(tunnel_of(&mut request), Ok(Tunnel::Requested));
        assert_eq!(request.method, Method::GET);
        assert_eq!(request.headers["connection"], "Upgrade");
        assert_eq!(request.headers["upgrade"], "websocket");
        let key = BASE64_STANDARD.decode(&request.headers["sec-websocket-key"]);
        assert_eq!(key.expect("base64").len(), 16);
    }

    #[test]
    fn other_requests_do_not() {
        let mut request = connect("tcp", &[]);
        assert_eq!(tunnel_of(&mut request), Ok(Tunnel::Unknown));
        assert_eq!(request.method, Method::CONNECT);
        let mut request = RequestHeader::build("CONNECT", b"/", None).expect("a request");
        assert_eq!(tunnel_of(&mut request), Ok(Tunnel::None));
        let mut request = connect("websocket", &[("content-length", "5")]);
        assert_eq!(tunnel_of(&mut request), Err(Malformed));
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
