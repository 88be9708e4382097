//! Which answers of hosts are refused, and what changes in the others.

use http::header::{CONNECTION, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::Via;
use super::fields::{self, Coding, Length};
use crate::config::Limits;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Makes the head of a host's answer one that may be passed on.
///
/// # Errors
/// If its framing can be understood in more than one way, its status is none, or it is too large.
pub(in crate::proxy) fn pass_back(
    response: &mut ResponseHeader,
    limits: &Limits,
    via: Option<&Via>,
) -> Result<()> {
    let refuse = |why| Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
    if response.headers.len() > limits.fields {
        return refuse("the host's answer has too many header fields");
    }
    if fields::size(&response.headers) > limits.head {
        return refuse("the header fields of the host's answer are too large");
    }
    if response.status.as_u16() > 599 {
        return refuse("the host's answer has a status that does not exist");
    }
    if is_switch(response) && response.version != Version::HTTP_11 {
        return refuse("the host switched protocols in a version that cannot");
    }
    match fields::coding(&response.headers) {
        Coding::Absent => {}
        Coding::Chunked if response.version != Version::HTTP_10 => {}
        _ => return refuse("the host's answer has a Transfer-Encoding that cannot be"),
    }
    match fields::content_length(&response.headers) {
        Length::Absent | Length::Plain(_) => {}
        Length::Repeated(length) => response.insert_header(CONTENT_LENGTH, length)?,
        Length::Invalid => return refuse("the host's answer has no valid Content-Length"),
    }
    if response.status.is_informational() || response.status == StatusCode::NO_CONTENT {
        // They have no body, and must not speak of one, RFC 9110 8.6 and RFC 9112 6.1.
        response.remove_header(&CONTENT_LENGTH);
        response.remove_header(&TRANSFER_ENCODING);
    }
    strip_hop_by_hop(response)?;
    if let Some(via) = via
        && (!response.status.is_informational() || is_switch(response))
    {
        let entry = via.of(response.version);
        response.append_header("Via", entry)?;
    }
    // Whoever passes a message on speaks for itself, RFC 9110 6.2.
    response.set_version(Version::HTTP_11);
    Ok(())
}

/// Whether an answer says that it has no body.
pub(in crate::proxy) fn is_empty(response: &ResponseHeader) -> bool {
    fields::content_length(&response.headers) == Length::Plain(0)
}

/// Removes the fields that concern the connection to the host: those of RFC 9110 7.6.1 and those that Connection names.
/// Transfer-Encoding is not among them, as the client's side is framed by it; nor is what it takes to switch protocols.
fn strip_hop_by_hop(response: &mut ResponseHeader) -> Result<()> {
    let is_usual = |option: &&[u8]| {
        let usual = [&b"close"[..], b"keep-alive", b"upgrade"];
        usual.iter().any(|usual| option.eq_ignore_ascii_case(usual))
    };
    let framing = [CONTENT_LENGTH, TRANSFER_ENCODING];
    let named: Vec<HeaderName> = fields::list(response.headers.get_all(CONNECTION))
        .filter(|option| !is_usual(option))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| !framing.contains(name))
        .collect();
    for name in named {
        response.remove_header(&name);
    }
    response.remove_header(&KEEP_ALIVE);
    response.remove_header(&PROXY_CONNECTION);
    // Trailers do not pass either.
    response.remove_header(&TRAILER);
    if is_switch(response) {
        response.insert_header(CONNECTION, "Upgrade")?;
    } else {
        response.remove_header(&CONNECTION);
        response.remove_header(&UPGRADE);
    }
    Ok(())
}

fn is_switch(response: &ResponseHeader) -> bool {
    response.status == StatusCode::SWITCHING_PROTOCOLS
}

/// Ends a body of unknown length as the client's version can understand: HTTP/1.0 knows no chunks, so there the end of
/// the connection is the end of the body.
pub(in crate::proxy) fn suit_client(session: &mut Session, response: &mut ResponseHeader) {
    if session.req_header().version == Version::HTTP_10
        && response.remove_header(&TRANSFER_ENCODING).is_some()
    {
        session.set_keepalive(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        max_in_flight: None,
        head: 1_000,
        target: 100,
        fields: 5,
        body: None,
        max_connections: None,
        max_connections_per_client: None,
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

    /// The fields of an answer that is passed on, as `name: value`; `None` if it is not.
    fn passed(status: u16, fields: &[(&'static str, &str)]) -> Option<Vec<String>> {
        let mut response = response(status, fields);
        pass_back(&mut response, &LIMITS, None).ok()?;
        let fields = response.headers.iter();
        let shown = fields.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        Some(shown.collect())
    }

    #[test]
    fn the_framing_of_an_answer_is_one_or_it_is_refused() {
        let length = |value| passed(200, &[("Content-Length", value)]);
        assert_eq!(length("5").unwrap(), ["content-length: 5"]);
        assert_eq!(length("5, 5").unwrap(), ["content-length: 5"]);
        assert_eq!(length("005").unwrap(), ["content-length: 5"]);
        let twice = [("Content-Length", "5"), ("Content-Length", "5")];
        assert_eq!(passed(200, &twice).unwrap(), ["content-length: 5"]);
        for bad in ["", "5, 6", "+5", "5,", "0x5", "18446744073709551621"] {
            assert!(length(bad).is_none(), "{bad}");
        }
        let coding = |value| passed(200, &[("Transfer-Encoding", value)]);
        assert_eq!(coding("chunked").unwrap(), ["transfer-encoding: chunked"]);
        for bad in ["gzip, chunked", "chunked, chunked", "identity", "xchunked"] {
            assert!(coding(bad).is_none(), "{bad}");
        }
        let mut old = response(200, &[("Transfer-Encoding", "chunked")]);
        old.set_version(Version::HTTP_10);
        assert!(pass_back(&mut old, &LIMITS, None).is_err());
        old.remove_header(&TRANSFER_ENCODING);
        pass_back(&mut old, &LIMITS, None).unwrap();
        assert_eq!(old.version, Version::HTTP_11);
    }

    #[test]
    fn answers_without_a_body_do_not_speak_of_one() {
        assert!(passed(204, &[("Content-Length", "5")]).unwrap().is_empty());
        assert!(passed(103, &[("Content-Length", "5")]).unwrap().is_empty());
        assert!(
            passed(204, &[("Transfer-Encoding", "chunked")])
                .unwrap()
                .is_empty()
        );
        assert_eq!(passed(304, &[("Content-Length", "5")]).unwrap().len(), 1);
    }

    #[test]
    fn what_concerns_the_hosts_connection_stays_there() {
        let kept = passed(
            200,
            &[
                ("Connection", "close, X-Foo , ,keep-alive"),
                ("X-Foo", "1"),
                ("Keep-Alive", "timeout=5"),
                ("Upgrade", "h2"),
                ("X-Bar", "1"),
            ],
        );
        assert_eq!(kept.unwrap(), ["x-bar: 1"]);
        let named = [
            ("Connection", "\"x\", content-length"),
            ("Content-Length", "5"),
        ];
        assert_eq!(passed(200, &named).unwrap(), ["content-length: 5"]);
        let switch = [
            ("Connection", "keep-alive, Upgrade, X-Foo"),
            ("Upgrade", "websocket"),
            ("X-Foo", "1"),
            ("Proxy-Connection", "x"),
        ];
        let mut kept = passed(101, &switch).unwrap();
        kept.sort();
        assert_eq!(kept, ["connection: Upgrade", "upgrade: websocket"]);
    }

    #[test]
    fn an_answer_may_have_only_so_much_and_a_status_that_exists() {
        assert!(passed(200, &[("X", "a"); 5]).is_some());
        assert!(passed(200, &[("X", "a"); 6]).is_none());
        assert!(passed(200, &[("X", &"a".repeat(900))]).is_some());
        assert!(passed(200, &[("X", &"a".repeat(1_000))]).is_none());
        assert!(passed(599, &[]).is_some());
        assert!(passed(600, &[]).is_none());
    }

    #[test]
    fn via_tells_the_version_of_the_host() {
        let via = Via::new("ballast");
        let mut answer = response(200, &[("Via", "1.1 inner")]);
        pass_back(&mut answer, &LIMITS, Some(&via)).unwrap();
        let hops: Vec<_> = answer.headers.get_all("via").iter().collect();
        assert_eq!(hops, ["1.1 inner", "1.1 ballast"]);
    }
}
