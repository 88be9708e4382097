//! A collector over HTTP: one request on a connection of its own, within one time limit.

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

/// Answers are a few bytes; nothing behind this many is looked at.
const LONGEST_ANSWER: usize = 64 << 10;

/// Why a collector did not take what it was sent.
#[derive(Debug)]
pub(super) enum Fault {
    /// It may, another time.
    Passing(String),
    /// It will not.
    Lasting(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Passing(reason) | Fault::Lasting(reason) => f.write_str(reason),
        }
    }
}

/// Sends to one collector.
pub(super) struct Client {
    endpoint: Endpoint,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
    connector: Connector,
}

impl Client {
    pub(super) fn new(config: &Otlp) -> Self {
        Client {
            endpoint: config.endpoint.clone(),
            headers: config.headers.clone(),
            timeout: config.timeout,
            connector: Connector::new(None),
        }
    }

    /// Sends spans, in pieces; returns how many of them were turned away.
    pub(super) async fn post(&self, spans: &[&[u8]]) -> Result<u64, Fault> {
        let exchange = timeout(self.timeout, self.exchange(spans));
        let (status, body) = match exchange.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(reason)) => return Err(Fault::Passing(reason)),
            Err(_) => {
                return Err(Fault::Passing(format!(
                    "no answer within {:?}",
                    self.timeout
                )));
            }
        };
        match status {
            200..=299 => Ok(turned_away(&body)),
            // What the specification has a sender try again.
            429 | 502 | 503 | 504 => Err(Fault::Passing(format!("status {status}"))),
            _ => Err(Fault::Lasting(format!("status {status}"))),
        }
    }

    async fn exchange(&self, spans: &[&[u8]]) -> Result<(u16, Vec<u8>), String> {
        let name = (self.endpoint.host.as_str(), self.endpoint.port);
        let addresses = lookup_host(name).await.map_err(|error| error.to_string())?;
        let mut session = self.connect(addresses).await?;
        let answer = self.converse(&mut session, spans).await;
        session.shutdown().await;
        answer.map_err(|error| error.to_string())
    }

    /// A connection to the first address that takes one.
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

    async fn converse(&self, session: &mut HttpSession, spans: &[&[u8]]) -> Result<(u16, Vec<u8>)> {
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
        while body.len() < LONGEST_ANSWER
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

/// How many spans an answer says were not taken.
fn turned_away(answer: &[u8]) -> u64 {
    let answer = ExportResponse::decode(answer).unwrap_or_default();
    let spans = answer.partial_success.map_or(0, |part| part.rejected_spans);
    u64::try_from(spans).unwrap_or(0)
}
