//! WebSockets over HTTP/2 by extended CONNECT, RFC 8441.
//!
//! A request for a tunnel becomes the upgrade that it is in HTTP/1.1, which routes, limits, logs and hosts treat as any
//! other; its 101 becomes the 200 that begins the tunnel on the stream.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Method, StatusCode};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

/// The only protocol that extended CONNECT is served for. Others do not have a handshake in HTTP/1.1.
const WEBSOCKET: &str = "websocket";

/// The tunnel that a stream asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tunnel {
    /// None: an ordinary request.
    None,
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

/// Turns a request for a WebSocket into the upgrade of HTTP/1.1. `false`: it is an ordinary request.
///
/// # Errors
/// The status of the response to a request for another protocol, or to one that announces a body.
pub(super) fn begin(request: &mut RequestHeader) -> std::result::Result<bool, StatusCode> {
    let Some(protocol) = request.extensions_mut().remove::<Protocol>() else {
        return Ok(false);
    };
    if !protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) {
        return Err(StatusCode::NOT_IMPLEMENTED);
    }
    if request.headers.contains_key(CONTENT_LENGTH) {
        return Err(StatusCode::BAD_REQUEST);
    }
    request.set_method(Method::GET);
    let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
    for (name, value) in [
        (CONNECTION, "Upgrade"),
        (UPGRADE, WEBSOCKET),
        (SEC_WEBSOCKET_KEY, &key),
    ] {
        let inserted = request.insert_header(name, value);
        inserted.expect("the values are valid");
    }
    Ok(true)
}

/// Turns the host's 101 into the response that begins a tunnel.
pub(super) fn accept(head: &mut ResponseHeader) -> Result<()> {
    head.remove_header(&SEC_WEBSOCKET_ACCEPT);
    head.remove_header(&CONTENT_LENGTH);
    head.set_status(StatusCode::OK)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(begin(&mut request), Ok(true));
        assert_eq!(request.method, Method::GET);
        assert_eq!(request.headers["connection"], "Upgrade");
        assert_eq!(request.headers["upgrade"], "websocket");
        let key = BASE64_STANDARD.decode(&request.headers["sec-websocket-key"]);
        assert_eq!(key.expect("base64").len(), 16);
    }

    #[test]
    fn other_requests_do_not() {
        let mut request = connect("tcp", &[]);
        assert_eq!(begin(&mut request), Err(StatusCode::NOT_IMPLEMENTED));
        assert_eq!(request.method, Method::CONNECT);
        let mut request = RequestHeader::build("CONNECT", b"/", None).expect("a request");
        assert_eq!(begin(&mut request), Ok(false));
        let mut request = connect("websocket", &[("content-length", "5")]);
        assert_eq!(begin(&mut request), Err(StatusCode::BAD_REQUEST));
    }
}
