//! An HTTP client for an OTLP collector: each export is one request on its own connection, within one timeout.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use pingora::http::RequestHeader;
use pingora::{Error, Result};
use prost::Message;

use super::otlp::ExportResponse;
use crate::config::{Endpoint, Otlp};
use crate::proxy::subrequest::{
    BodyLimit, SERVICE_RESPONSE_HEAD, Subrequest, SubrequestClient, SubrequestLimits,
    SubrequestTarget,
};

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
    client: SubrequestClient,
}

impl CollectorClient {
    pub(super) fn new(config: &Otlp) -> Self {
        CollectorClient {
            endpoint: config.endpoint.clone(),
            headers: headers(config),
            timeout: config.timeout,
            client: SubrequestClient::default(),
        }
    }

    /// Exports a message, given in pieces; returns how many of its spans the collector rejected.
    pub(super) async fn post(&self, spans: &[&[u8]]) -> Result<u64, ExportError> {
        let retryable = |error: Box<Error>| ExportError::Retryable(error.to_string());
        let request = self.request(spans).map_err(retryable)?;
        let target = SubrequestTarget::Url(&self.endpoint);
        let limits = SubrequestLimits {
            total: self.timeout,
            body: BodyLimit::Keep(MAX_RESPONSE),
            head: &SERVICE_RESPONSE_HEAD,
        };
        let response = self.client.send(target, &request, limits).await;
        let response = response.map_err(retryable)?;
        match response.head.status.as_u16() {
            200..=299 => Ok(rejected_spans(&response.body)),
            // The statuses that the OTLP specification calls retryable.
            status @ (429 | 502 | 503 | 504) => {
                Err(ExportError::Retryable(format!("status {status}")))
            }
            status => Err(ExportError::Permanent(format!("status {status}"))),
        }
    }

    fn request(&self, spans: &[&[u8]]) -> Result<Subrequest> {
        let path = self.endpoint.path.as_bytes();
        let mut head = RequestHeader::build(Method::POST, path, None)?;
        head.insert_header(header::HOST, self.endpoint.authority())?;
        head.insert_header(header::CONTENT_TYPE, "application/x-protobuf")?;
        // A kept connection may be closed at any time, and a POST is not repeated.
        head.insert_header(header::CONNECTION, "close")?;
        for (name, value) in &self.headers {
            head.append_header(name.clone(), value.clone())?;
        }
        Subrequest::new(head, spans.concat().into())
    }
}

/// The configured fields, those in a file as well.
fn headers(config: &Otlp) -> Vec<(HeaderName, HeaderValue)> {
    let more = config.headers_file.iter().flat_map(|file| &file.fields);
    let more = more.map(|(field, value)| (field.name.clone(), value.clone()));
    config.headers.iter().cloned().chain(more).collect()
}

/// The number of rejected spans according to the response.
fn rejected_spans(response: &[u8]) -> u64 {
    let response = ExportResponse::decode(response).unwrap_or_default();
    let spans = response
        .partial_success
        .map_or(0, |part| part.rejected_spans);
    u64::try_from(spans).unwrap_or(0)
}
