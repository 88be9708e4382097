//! A check by a request over HTTP/1.1 or HTTP/2.
//!
//! Unlike Pingora's own it looks at the connection before it sends the request.

use async_trait::async_trait;
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::lb::Backend;
use pingora::lb::health_check::HealthCheck;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use crate::config::TlsVersion;
use crate::host_tls::check_version;

/// The error type for a response with an unexpected status; the error's context names it.
pub(super) const WRONG_STATUS: ErrorType = ErrorType::new("WrongStatus");

/// Asks a host for a resource.
pub(super) struct HttpHealthCheck {
    peer_template: HttpPeer,
    min_tls_version: TlsVersion,
    connector: Connector,
    request: RequestHeader,
    /// The ranges of statuses that are expected, with both ends.
    expect: Vec<(u16, u16)>,
}

impl HttpHealthCheck {
    /// Each check uses a connection of its own.
    pub(super) fn new(
        (peer, min_tls_version): (&HttpPeer, TlsVersion),
        connector: Connector,
        request: RequestHeader,
        expect: &[(u16, u16)],
    ) -> Self {
        let mut peer_template = peer.clone();
        peer_template.options.max_h2_streams = 1;
        HttpHealthCheck {
            peer_template,
            min_tls_version,
            connector,
            request,
            expect: expect.to_vec(),
        }
    }
}

#[async_trait]
impl HealthCheck for HttpHealthCheck {
    async fn check(&self, target: &Backend) -> Result<()> {
        let mut peer = self.peer_template.clone();
        peer._address = target.addr.clone();
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        check_session(self.min_tls_version, session.digest())?;
        session.set_write_timeout(peer.options.write_timeout);
        session
            .write_request_header(Box::new(self.request.clone()))
            .await?;
        session.finish_request_body().await?;
        session.set_read_timeout(peer.options.read_timeout);
        session.read_response_header().await?;
        match session.response_header() {
            Some(head) => expected(head, &self.expect)?,
            None => return Error::e_explain(WRONG_STATUS, "no response"),
        }
        while session.read_response_body().await?.is_some() {}
        Ok(())
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

/// Refuses a connection with too low a version of TLS.
pub(super) fn check_session(min_version: TlsVersion, digest: Option<&Digest>) -> Result<()> {
    let digest = digest.and_then(|digest| digest.ssl_digest.as_deref());
    check_version(min_version, digest)
}

fn expected(head: &ResponseHeader, ranges: &[(u16, u16)]) -> Result<()> {
    let status = head.status.as_u16();
    if ranges
        .iter()
        .any(|&(from, to)| (from..=to).contains(&status))
    {
        return Ok(());
    }
    let ranges: Vec<_> = ranges
        .iter()
        .map(|&(from, to)| match from == to {
            true => from.to_string(),
            false => format!("{from}-{to}"),
        })
        .collect();
    Error::e_explain(
        WRONG_STATUS,
        format!("status {status}, expected {}", ranges.join(", ")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unexpected_status_names_the_expected_ones() {
        let head = ResponseHeader::build(500, None).unwrap();
        let error = expected(&head, &[(200, 399), (404, 404)]).unwrap_err();
        let context = error.context.as_ref().map(|context| context.as_str());
        assert_eq!(context, Some("status 500, expected 200-399, 404"));
        assert!(expected(&head, &[(500, 500)]).is_ok());
    }
}
