//! An HTTP client for an OTLP collector: each export is one request on its own connection, within one timeout.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use pingora::connectors::http::v1::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::v1::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use prost::Message;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::otlp::ExportResponse;
use crate::config::{Endpoint, Otlp};

/// The maximum size of a response body that is read. Usual responses have a few bytes.
const MAX_RESPONSE: usize = 64 << 10;

/// Why an export failed.
#[derive(Debug)]
pub(super) enum ExportError {
    /// A retry may succeed.
    Retryable(String),
    /// The collector refused the spans.
    Permanent(String),
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportError::Retryable(reason) | ExportError::Permanent(reason) => f.write_str(reason),
        }
    }
}

/// A client for one collector.
pub(super) struct CollectorClient {
    endpoint: Endpoint,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
    connector: Connector,
}

impl CollectorClient {
    pub(super) fn new(config: &Otlp) -> Self {
        CollectorClient {
            endpoint: config.endpoint.clone(),
            headers: headers(config),
            timeout: config.timeout,
            connector: Connector::new(None),
        }
    }

    /// Exports a message, given in pieces; returns how many of its spans the collector rejected.
    pub(super) async fn post(&self, spans: &[&[u8]]) -> Result<u64, ExportError> {
        let exchange = timeout(self.timeout, self.post_once(spans));
        let (status, body) = match exchange.await {
            Ok(Ok(response)) => response,
            Ok(Err(reason)) => return Err(ExportError::Retryable(reason)),
            Err(_) => {
                return Err(ExportError::Retryable(format!(
                    "no response within {:?}",
                    self.timeout
                )));
            }
        };
        match status {
            200..=299 => Ok(rejected_spans(&body)),
            // The statuses that the OTLP specification calls retryable.
            429 | 502 | 503 | 504 => Err(ExportError::Retryable(format!("status {status}"))),
            _ => Err(ExportError::Permanent(format!("status {status}"))),
        }
    }

    async fn post_once(&self, spans: &[&[u8]]) -> Result<(u16, Vec<u8>), String> {
        let name = (self.endpoint.host.as_str(), self.endpoint.port);
        let addresses = lookup_host(name).await.map_err(|error| error.to_string())?;
        let mut session = self.connect(addresses).await?;
        let response = self.send_and_receive(&mut session, spans).await;
        session.shutdown().await;
        response.map_err(|error| error.to_string())
    }

    /// Connects to the first address that accepts.
    async fn connect(
        &self,
        addresses: impl Iterator<Item = SocketAddr>,
    ) -> Result<HttpSession, String> {
        let mut reason = "the name has no address".to_owned();
        for address in addresses {
            let Endpoint { tls, host, .. } = &self.endpoint;
            let mut peer = HttpPeer::new(address, *tls, host.clone());
            peer.options.connection_timeout = Some(self.timeout);
            match self.connector.get_http_session(&peer).await {
                Ok((session, _)) => return Ok(session),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(reason)
    }

    async fn send_and_receive(
        &self,
        session: &mut HttpSession,
        spans: &[&[u8]],
    ) -> Result<(u16, Vec<u8>)> {
        let length = spans.iter().map(|piece| piece.len()).sum();
        session.write_request_header(self.head(length)?).await?;
        for piece in spans {
            session.write_body(piece).await?;
        }
        session.finish_body().await?;
        session.read_response().await?;
        let status = session
            .get_status()
            .ok_or_else(|| Error::explain(ErrorType::InvalidHTTPHeader, "no status"))?;
        let mut body = Vec::new();
        while body.len() < MAX_RESPONSE
            && let Some(more) = session.read_body_ref().await?
        {
            body.extend_from_slice(more);
        }
        Ok((status.as_u16(), body))
    }

    fn head(&self, length: usize) -> Result<Box<RequestHeader>> {
        let path = self.endpoint.path.as_bytes();
        let mut head = RequestHeader::build(Method::POST, path, None)?;
        head.insert_header(header::HOST, self.endpoint.authority())?;
        head.insert_header(header::CONTENT_TYPE, "application/x-protobuf")?;
        head.insert_header(header::CONTENT_LENGTH, length)?;
        head.insert_header(header::CONNECTION, "close")?;
        for (name, value) in &self.headers {
            head.append_header(name.clone(), value.clone())?;
        }
        Ok(Box::new(head))
    }
}

/// The configured fields, those in a file as well.
fn headers(config: &Otlp) -> Vec<(HeaderName, HeaderValue)> {
    let more = config.headers_file.iter().flat_map(|file| &file.fields);
    config.headers.iter().chain(more).cloned().collect()
}

/// The number of rejected spans according to the response.
fn rejected_spans(response: &[u8]) -> u64 {
    let response = ExportResponse::decode(response).unwrap_or_default();
    let spans = response
        .partial_success
        .map_or(0, |part| part.rejected_spans);
    u64::try_from(spans).unwrap_or(0)
}
