//! Rules for responses of hosts: which are refused, and which fields are passed on or changed.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, LOCATION, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, StatusCode, Version};
use pingora::{Error, ErrorType, Result};

use super::Via;
use super::fields::{self, ContentLength, TransferCoding};
use crate::config::Limits;
use crate::message::{FieldsView, ResponseView};
use crate::proxy::forwarding::header_editor::HeaderEditor;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Validates the head of a host's response. `upgrade` is the protocol that the request requested for.
///
/// # Errors
/// If the framing is ambiguous, the status is out of range, the head is too large, or the host switches to a protocol
/// that was not requested for.
pub(crate) fn validate_response(
    response: ResponseView<'_>,
    upgrade: Option<&str>,
    limits: &Limits,
) -> Result<ContentLength> {
    let refuse = |why| Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    if response.fields.len() > limits.fields {
        return refuse("the host's response has too many header fields");
    }
    if fields::size(response.fields) > limits.head {
        return refuse("the header fields of the host's response are too large");
    }
    if response.status.as_u16() > 599 {
        return refuse("the host's response has an invalid status");
    }
    if is_switch(response) {
        if response.version != Version::HTTP_11 {
            return refuse("the host switched protocols in a version other than HTTP/1.1");
        }
        let Some(upgrade) = upgrade else {
            // If the response were forwarded, the client would take the host's next bytes for the response to its next
            // request.
            return refuse("the host switched protocols without being requested");
        };
        let mut switched = response.fields.get_all(&UPGRADE);
        let is_asked = |protocol: &[u8]| protocol.eq_ignore_ascii_case(upgrade.as_bytes());
        if !(switched.next().is_some_and(is_asked) && switched.next().is_none()) {
            return refuse("the host switched to a protocol that was not requested");
        }
    }
    match fields::coding(response.fields) {
        TransferCoding::Absent => {}
        TransferCoding::Chunked if response.version != Version::HTTP_10 => {}
        _ => return refuse("the host's response has an invalid Transfer-Encoding"),
    }
    match fields::content_length(response.fields) {
        ContentLength::Invalid => refuse("the host's response has an invalid Content-Length"),
        length => Ok(length),
    }
}

/// Selects the response fields that are forwarded: all except the hop-by-hop fields, which are those of RFC 9110 7.6.1
/// and those that Connection names. Transfer-Encoding and Upgrade may pass: the driver frames the client's side by the
/// former.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseFieldFilter<'a> {
    response: ResponseView<'a>,
    /// Whether Connection names any fields.
    has_named_fields: bool,
    /// Whether the body is chunked. The chunk sizes then override Content-Length, RFC 9112 6.3.
    chunked: bool,
}

impl<'a> ResponseFieldFilter<'a> {
    pub(crate) fn new(response: ResponseView<'a>) -> Self {
        let is_usual = |option: &[u8]| {
            let usual = [&b"close"[..], b"keep-alive", b"upgrade"];
            usual.iter().any(|usual| option.eq_ignore_ascii_case(usual))
        };
        let mut options = fields::list(response.fields.get_all(&CONNECTION));
        ResponseFieldFilter {
            response,
            has_named_fields: options.any(|option| !is_usual(option)),
            chunked: fields::coding(response.fields) != TransferCoding::Absent,
        }
    }

    pub(crate) fn passes(&self, name: &[u8]) -> bool {
        let is = |known: &HeaderName| name.eq_ignore_ascii_case(known.as_str().as_bytes());
        let is_framing = || is(&CONTENT_LENGTH) || is(&TRANSFER_ENCODING);
        match name.len() {
            // For a switch of protocols, Connection is set again later.
            10 if is(&CONNECTION) || is(&KEEP_ALIVE) => false,
            16 if is(&PROXY_CONNECTION) => false,
            // Trailers are not forwarded either.
            7 if is(&TRAILER) => false,
            7 if is(&UPGRADE) => is_switch(self.response),
            // A response without a body must not announce one, RFC 9110 8.6 and RFC 9112 6.1.
            14 if self.chunked && is(&CONTENT_LENGTH) => false,
            14 | 17 if is_framing() => !is_bodiless(self.response.status),
            _ => !self.is_named(name),
        }
    }

    fn is_named(&self, name: &[u8]) -> bool {
        self.has_named_fields && fields::has_option(self.response.fields.get_all(&CONNECTION), name)
    }
}

/// Sets the fields of a response that change at every hop, after the fields that pass.
pub(crate) fn set_response_hop_fields(
    (status, version): (StatusCode, Version),
    length: ContentLength,
    via: Option<&Via>,
    out: &mut impl HeaderEditor,
) -> Result<()> {
    if let ContentLength::NonCanonical(length) = length
        && !is_bodiless(status)
    {
        let mut digits = itoa::Buffer::new();
        out.set("Content-Length", digits.format(length).as_bytes())?;
    }
    let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
    if is_switch {
        out.set("Connection", b"Upgrade")?;
    }
    if let Some(via) = via
        && (!status.is_informational() || is_switch)
    {
        out.append("Via", via.entry_for(version))?;
    }
    Ok(())
}

/// Bytes of the body of a response, as the fields that are passed on announce them.
pub(crate) fn announced_length(fields: FieldsView<'_>) -> Option<u64> {
    match fields::content_length(fields) {
        ContentLength::Canonical(length) => Some(length),
        _ => None,
    }
}

/// Drops trailers that must not be there: those about the connection and the framing of the message, and those that a
/// recipient would take for header fields that the proxy has checked or set, RFC 9110 6.5.1.
pub(crate) fn drop_trailers(trailers: &mut HeaderMap) {
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        TRAILER,
        TE,
        CONTENT_LENGTH,
        HOST,
        SET_COOKIE,
        LOCATION,
        VIA,
    ] {
        trailers.remove(name);
    }
}

/// Whether a response announces an empty body.
pub(crate) fn has_empty_body(fields: FieldsView<'_>) -> bool {
    announced_length(fields) == Some(0)
}

fn is_switch(response: ResponseView<'_>) -> bool {
    response.status == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether responses with this status never have a body.
fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use pingora::http::ResponseHeader;

    use super::*;
    use crate::pingora_driver::header_rules::filter_response;

    const LIMITS: Limits = Limits {
        max_in_flight: None,
        head: 1_000,
        target: 100,
        fields: 5,
        body: None,
        max_connections: None,
        max_connections_per_client: None,
        max_handshakes: None,
        max_requests_per_connection: None,
        min_body_rate: None,
        rate: None,
    };

    fn response(status: u16, fields: &[(&'static str, &str)]) -> ResponseHeader {
        let mut response = ResponseHeader::build(status, None).unwrap();
        response.set_version(Version::HTTP_11);
        for (name, value) in fields {
            response.append_header(*name, *value).unwrap();
        }
        response
    }

    /// The fields of the forwarded response, as `name: value`. `None`: the response is refused.
    fn forwarded(status: u16, fields: &[(&'static str, &str)]) -> Option<Vec<String>> {
        let mut response = response(status, fields);
        filter_response(&mut response, Some("websocket"), &LIMITS, None).ok()?;
        let fields = response.headers.iter();
        let lines = fields.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        Some(lines.collect())
    }

    #[test]
    fn a_response_with_ambiguous_framing_is_refused() {
        let length = |value| forwarded(200, &[("Content-Length", value)]);
        assert_eq!(length("5").unwrap(), ["content-length: 5"]);
        assert_eq!(length("5, 5").unwrap(), ["content-length: 5"]);
        assert_eq!(length("005").unwrap(), ["content-length: 5"]);
        let twice = [("Content-Length", "5"), ("Content-Length", "5")];
        assert_eq!(forwarded(200, &twice).unwrap(), ["content-length: 5"]);
        for bad in ["", "5, 6", "+5", "5,", "0x5", "18446744073709551621"] {
            assert!(length(bad).is_none(), "{bad}");
        }
        let coding = |value| forwarded(200, &[("Transfer-Encoding", value)]);
        assert_eq!(coding("chunked").unwrap(), ["transfer-encoding: chunked"]);
        for bad in ["gzip, chunked", "chunked, chunked", "identity", "xchunked"] {
            assert!(coding(bad).is_none(), "{bad}");
        }
        let mut old = response(200, &[("Transfer-Encoding", "chunked")]);
        old.set_version(Version::HTTP_10);
        assert!(filter_response(&mut old, None, &LIMITS, None).is_err());
        old.remove_header(&TRANSFER_ENCODING);
        filter_response(&mut old, None, &LIMITS, None).unwrap();
        assert_eq!(old.version, Version::HTTP_11);
    }

    #[test]
    fn responses_without_a_body_do_not_announce_one() {
        assert!(
            forwarded(204, &[("Content-Length", "5")])
                .unwrap()
                .is_empty()
        );
        assert!(
            forwarded(103, &[("Content-Length", "5")])
                .unwrap()
                .is_empty()
        );
        assert!(
            forwarded(204, &[("Transfer-Encoding", "chunked")])
                .unwrap()
                .is_empty()
        );
        assert_eq!(forwarded(304, &[("Content-Length", "5")]).unwrap().len(), 1);
    }

    #[test]
    fn hop_by_hop_fields_are_not_forwarded() {
        let fields = forwarded(
            200,
            &[
                ("Connection", "close, X-Foo , ,keep-alive"),
                ("X-Foo", "1"),
                ("Keep-Alive", "timeout=5"),
                ("Upgrade", "h2"),
                ("X-Bar", "1"),
            ],
        );
        assert_eq!(fields.unwrap(), ["x-bar: 1"]);
        let named = [
            ("Connection", "\"x\", content-length"),
            ("Content-Length", "5"),
        ];
        assert_eq!(forwarded(200, &named).unwrap(), ["content-length: 5"]);
        let switch = [
            ("Connection", "keep-alive, Upgrade, X-Foo"),
            ("Upgrade", "websocket"),
            ("X-Foo", "1"),
            ("Proxy-Connection", "x"),
        ];
        let mut fields = forwarded(101, &switch).unwrap();
        fields.sort();
        assert_eq!(fields, ["connection: Upgrade", "upgrade: websocket"]);
    }

    #[test]
    fn only_the_requested_protocol_is_accepted() {
        let switches = |requested, fields: &[(&'static str, &str)]| {
            let head = response(101, fields);
            validate_response((&head).into(), requested, &LIMITS).is_ok()
        };
        let websocket = ("Upgrade", "WebSocket");
        assert!(switches(Some("websocket"), &[websocket]));
        assert!(!switches(None, &[websocket]));
        assert!(!switches(Some("tcp"), &[websocket]));
        assert!(!switches(Some("websocket"), &[]));
        assert!(!switches(
            Some("websocket"),
            &[websocket, ("Upgrade", "tcp")]
        ));
        assert!(!switches(
            Some("websocket"),
            &[("Upgrade", "websocket, tcp")]
        ));
        let mut old = response(101, &[websocket]);
        old.set_version(Version::HTTP_10);
        assert!(validate_response((&old).into(), Some("websocket"), &LIMITS).is_err());
    }

    #[test]
    fn large_responses_and_invalid_statuses_are_refused() {
        assert!(forwarded(200, &[("X", "a"); 5]).is_some());
        assert!(forwarded(200, &[("X", "a"); 6]).is_none());
        assert!(forwarded(200, &[("X", &"a".repeat(900))]).is_some());
        assert!(forwarded(200, &[("X", &"a".repeat(1_000))]).is_none());
        assert!(forwarded(599, &[]).is_some());
        assert!(forwarded(600, &[]).is_none());
    }

    #[test]
    fn via_has_the_version_of_the_host() {
        let via = Via::new("ballast");
        let mut head = response(200, &[("Via", "1.1 inner")]);
        filter_response(&mut head, None, &LIMITS, Some(&via)).unwrap();
        let hops: Vec<_> = head.headers.get_all("via").iter().collect();
        assert_eq!(hops, ["1.1 inner", "1.1 ballast"]);
    }
}
